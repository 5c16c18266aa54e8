// Package language knows the codes of ISO 639-1, and the English names of their languages. It refuses every other notation.
package language

import "strings"

// languages lists each code with the names and obsolete codes that providers of speech recognition return for it. The names are
// those of the Library of Congress and of Whisper; _ stands for a space.
const languages = `
	aa:afar ab:abkhazian,abkhaz ae:avestan af:afrikaans ak:akan am:amharic an:aragonese ar:arabic as:assamese av:avaric
	ay:aymara az:azerbaijani ba:bashkir be:belarusian bg:bulgarian bh:bihari bi:bislama bm:bambara bn:bengali,bangla bo:tibetan
	br:breton bs:bosnian ca:catalan,valencian ce:chechen ch:chamorro co:corsican cr:cree cs:czech cu:church_slavic cv:chuvash
	cy:welsh da:danish de:german dv:divehi,maldivian dz:dzongkha ee:ewe el:greek en:english eo:esperanto es:spanish,castilian
	et:estonian eu:basque fa:persian,farsi ff:fulah fi:finnish fj:fijian fo:faroese fr:french fy:western_frisian,frisian
	ga:irish gd:gaelic,scottish_gaelic gl:galician gn:guarani gu:gujarati gv:manx ha:hausa he:hebrew,iw hi:hindi ho:hiri_motu
	hr:croatian ht:haitian,haitian_creole hu:hungarian hy:armenian hz:herero ia:interlingua id:indonesian,in
	ie:interlingue,occidental ig:igbo ii:sichuan_yi ik:inupiaq io:ido is:icelandic it:italian iu:inuktitut ja:japanese
	jv:javanese,jw ka:georgian kg:kongo ki:kikuyu kj:kuanyama kk:kazakh kl:kalaallisut,greenlandic km:khmer,central_khmer
	kn:kannada ko:korean kr:kanuri ks:kashmiri ku:kurdish kv:komi kw:cornish ky:kirghiz,kyrgyz la:latin
	lb:luxembourgish,letzeburgesch lg:ganda li:limburgan,limburgish ln:lingala lo:lao lt:lithuanian lu:luba-katanga lv:latvian
	mg:malagasy mh:marshallese mi:maori mk:macedonian ml:malayalam mn:mongolian mr:marathi ms:malay mt:maltese
	my:burmese,myanmar na:nauru nb:norwegian_bokmål,bokmål nd:north_ndebele ne:nepali ng:ndonga nl:dutch,flemish
	nn:norwegian_nynorsk,nynorsk no:norwegian nr:south_ndebele nv:navajo,navaho ny:chichewa,nyanja oc:occitan oj:ojibwa om:oromo
	or:oriya,odia os:ossetian,ossetic pa:punjabi,panjabi pi:pali pl:polish ps:pashto,pushto pt:portuguese qu:quechua rm:romansh
	rn:rundi ro:romanian,moldavian,moldovan ru:russian rw:kinyarwanda sa:sanskrit sc:sardinian sd:sindhi se:northern_sami
	sg:sango si:sinhala,sinhalese sk:slovak sl:slovenian sm:samoan sn:shona so:somali sq:albanian sr:serbian ss:swati
	st:southern_sotho su:sundanese sv:swedish sw:swahili ta:tamil te:telugu tg:tajik th:thai ti:tigrinya tk:turkmen tl:tagalog
	tn:tswana to:tonga,tongan tr:turkish ts:tsonga tt:tatar tw:twi ty:tahitian ug:uighur,uyghur uk:ukrainian ur:urdu uz:uzbek
	ve:venda vi:vietnamese vo:volapük wa:walloon wo:wolof xh:xhosa yi:yiddish yo:yoruba za:zhuang
	zh:chinese,mandarin,cantonese,yue zu:zulu`

// IsCode reports whether a text is a code of ISO 639-1, in lower case.
func IsCode(text string) bool {
	code, ok := Code(text)
	return ok && code == text
}

// Code returns the code of a language from its code, its English name or a tag such as en-US, in any case. ok is false for an
// unknown language.
func Code(text string) (code string, ok bool) {
	text = strings.ToLower(strings.TrimSpace(text))
	tag, _, _ := strings.Cut(text, "-")
	for entry := range strings.FieldsSeq(languages) {
		code, names, _ := strings.Cut(entry, ":")
		if tag == code || text == code {
			return code, true
		}
		for name := range strings.SplitSeq(names, ",") {
			if text == strings.ReplaceAll(name, "_", " ") {
				return code, true
			}
		}
	}
	return "", false
}
