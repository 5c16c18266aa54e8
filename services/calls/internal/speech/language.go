package speech

import "strings"

// languages are the languages that Whisper supports, as verbose_json names them, with their ISO 639-1 codes:
// https://platform.openai.com/docs/guides/speech-to-text#supported-languages.
const languages = `afrikaans af arabic ar armenian hy azerbaijani az belarusian be bosnian bs bulgarian bg catalan ca chinese zh
	croatian hr czech cs danish da dutch nl english en estonian et finnish fi french fr galician gl german de greek el
	hebrew he hindi hi hungarian hu icelandic is indonesian id italian it japanese ja kannada kn kazakh kk korean ko
	latvian lv lithuanian lt macedonian mk malay ms marathi mr maori mi nepali ne norwegian no persian fa polish pl
	portuguese pt romanian ro russian ru serbian sr slovak sk slovenian sl spanish es swahili sw swedish sv tagalog tl
	tamil ta thai th turkish tr ukrainian uk urdu ur vietnamese vi welsh cy`

// languageCode returns the code of a language, which a provider returns as a name or a code. It is nil for an unknown one.
func languageCode(name string) *string {
	words := strings.Fields(languages)
	for i := 0; i < len(words); i += 2 {
		if strings.EqualFold(name, words[i]) || strings.EqualFold(name, words[i+1]) {
			return &words[i+1]
		}
	}
	return nil
}
