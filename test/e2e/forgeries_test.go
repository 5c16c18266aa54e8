package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forgedRequests are invalid ways to send a valid token, or none.
func forgedRequests(good string) map[string]func(r *http.Request) {
	header := func(values ...string) func(r *http.Request) {
		return func(r *http.Request) { r.Header["Authorization"] = values }
	}
	return map[string]func(r *http.Request){
		"no token":                    func(*http.Request) {},
		"empty header":                header(""),
		"scheme only":                 header("Bearer"),
		"no scheme":                   header(good),
		"Basic":                       header("Basic " + good),
		"Token":                       header("Token " + good),
		"Bearer twice":                header("Bearer Bearer " + good),
		"two spaces":                  header("Bearer  " + good),
		"a tab":                       header("Bearer\t" + good),
		"a space that does not break": header("Bearer\u00a0" + good),
		"a colon":                     header("Bearer: " + good),
		"two headers":                 header("Bearer "+good, "Bearer "+good),
		"two headers, one empty":      header("Bearer "+good, ""),
		"two in one header":           header("Bearer " + good + ", Bearer " + good),
		"a comma":                     header("Bearer " + good + ","),
		"a parameter":                 header("Bearer token=" + good),
		"in quotes":                   header(`Bearer "` + good + `"`),
		"in the query":                func(r *http.Request) { r.URL.RawQuery = "access_token=" + good + "&token=" + good },
		"in a cookie":                 func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "access_token", Value: good}) },
		"in a header of another name": func(r *http.Request) {
			r.Header.Set("X-Access-Token", good)
			r.Header.Set("Proxy-Authorization", "Bearer "+good)
		},
		"identity in headers":          identityHeaders,
		"identity in a forwarded host": func(r *http.Request) { r.Host = "127.0.0.1"; r.Header.Set("X-Forwarded-For", "127.0.0.1") },
	}
}

func identityHeaders(r *http.Request) {
	for _, name := range []string{"X-User-ID", "X-Agent-ID", "X-Auth-Agent-ID", "X-User-Role", "X-Forwarded-User", "X-Remote-User"} {
		r.Header.Set(name, missingID)
	}
	r.Header.Set("X-User-Role", "admin")
}

// forgedTokens are invalid in one way each.
func forgedTokens(t *testing.T, i *issuer) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, more := range []map[string]string{algorithms(t, i), headers(i), wrongClaims(i), encodings(i), signatures(t, i)} {
		for name, token := range more {
			require.NotContains(t, all, name)
			require.NotEqual(t, i.good, token, name)
			all[name] = token
		}
	}
	return all
}

// algorithms are tokens that claim another signature algorithm, and are signed with it.
func algorithms(t *testing.T, i *issuer) map[string]string {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public, err := base64URL.DecodeString(i.public)
	require.NoError(t, err)
	mac := func(h func() hash.Hash, secret []byte) func([]byte) []byte {
		return func(text []byte) []byte {
			m := hmac.New(h, secret)
			m.Write(text)
			return m.Sum(nil)
		}
	}
	withRSA := func(text []byte) []byte {
		sum := sha256.Sum256(text)
		signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
		require.NoError(t, err)
		return signature
	}
	withEC := func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, ecKey, sum[:])
		require.NoError(t, err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	own := func(text []byte) []byte { return ed25519.Sign(i.key, text) }
	unsigned := func([]byte) []byte { return nil }
	out := map[string]string{
		"no alg":                           i.token(object{"alg": nil}, nil),
		"alg empty":                        i.token(object{"alg": ""}, nil),
		"alg a number":                     i.token(object{"alg": 1}, nil),
		"alg a list":                       i.token(object{"alg": []string{"EdDSA"}}, nil),
		"alg in lower case":                i.token(object{"alg": "eddsa"}, nil),
		"alg Ed25519":                      i.token(object{"alg": "Ed25519"}, nil),
		"alg Ed448":                        i.token(object{"alg": "Ed448"}, nil),
		"HS256 with the public key":        i.signedWith(mac(sha256.New, public), object{"alg": "HS256"}, nil),
		"HS384 with the public key":        i.signedWith(mac(sha512.New384, public), object{"alg": "HS384"}, nil),
		"HS512 with the public key":        i.signedWith(mac(sha512.New, public), object{"alg": "HS512"}, nil),
		"HS256 with the text of it":        i.signedWith(mac(sha256.New, []byte(i.public)), object{"alg": "HS256"}, nil),
		"HS256 with no secret":             i.signedWith(mac(sha256.New, nil), object{"alg": "HS256"}, nil),
		"EdDSA by name, HS512 with it":     i.signedWith(mac(sha512.New, public), nil, nil),
		"RS256":                            i.signedWith(withRSA, object{"alg": "RS256"}, nil),
		"PS256":                            i.signedWith(withRSA, object{"alg": "PS256"}, nil),
		"ES256":                            i.signedWith(withEC, object{"alg": "ES256"}, nil),
		"ES256 with its key":               i.signedWith(withEC, object{"alg": "ES256", "jwk": object{"kty": "EC", "crv": "P-256"}}, nil),
		"EdDSA by name, ES256 in truth":    i.signedWith(withEC, nil, nil),
		"RS256 by name, EdDSA in truth":    i.signedWith(own, object{"alg": "RS256"}, nil),
		"an encrypted token by its header": i.signedWith(own, object{"alg": "dir", "enc": "A256GCM"}, nil),
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", " none"} {
		out["alg "+none+", not signed"] = i.signedWith(unsigned, object{"alg": none}, nil)
		out["alg "+none+", signed"] = i.token(object{"alg": none}, nil)
	}
	return out
}

// headers are tokens whose header names a key to use, or critical extensions.
func headers(i *issuer) map[string]string {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	own := func(text []byte) []byte { return ed25519.Sign(key, text) }
	jwk := object{"kty": "OKP", "crv": "Ed25519", "kid": i.kid, "x": base64URL.EncodeToString(key.Public().(ed25519.PublicKey)), "use": "sig", "alg": "EdDSA"}
	out := map[string]string{
		"another key, the same kid":  i.signedWith(own, nil, nil),
		"jwk":                        i.signedWith(own, object{"jwk": jwk}, nil),
		"jwk and no kid":             i.signedWith(own, object{"jwk": jwk, "kid": nil}, nil),
		"jwk, though well signed":    i.token(object{"jwk": jwk}, nil),
		"jku":                        i.signedWith(own, object{"jku": "http://127.0.0.1:1/jwks.json"}, nil),
		"jku, though well signed":    i.token(object{"jku": "http://127.0.0.1:1/jwks.json"}, nil),
		"x5u":                        i.token(object{"x5u": "http://127.0.0.1:1/cert.pem"}, nil),
		"x5c":                        i.token(object{"x5c": []string{"MIIB"}}, nil),
		"crit":                       i.token(object{"crit": []string{"exp"}}, nil),
		"crit empty":                 i.token(object{"crit": []string{}}, nil),
		"crit b64":                   i.token(object{"crit": []string{"b64"}, "b64": false}, nil),
		"no kid":                     i.token(object{"kid": nil}, nil),
		"kid null":                   i.raw(`{"alg":"EdDSA","typ":"at+jwt","kid":null}`, i.claimsText()),
		"kid a number":               i.token(object{"kid": 0}, nil),
		"kid a list":                 i.token(object{"kid": []string{i.kid}}, nil),
		"kid an object":              i.token(object{"kid": object{"$ne": ""}}, nil),
		"no typ":                     i.token(object{"typ": nil}, nil),
		"typ JWT":                    i.token(object{"typ": "JWT"}, nil),
		"typ of a refresh token":     i.token(object{"typ": "rt+jwt"}, nil),
		"typ a list":                 i.token(object{"typ": []string{"at+jwt"}}, nil),
		"header twice alg":           i.raw(`{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":"`+i.kid+`"}`, i.claimsText()),
		"header twice kid":           i.raw(`{"alg":"EdDSA","typ":"at+jwt","kid":"`+i.kid+`","kid":"x"}`, i.claimsText()),
		"header alg none in escapes": i.raw(`{"alg":"\u006eone","typ":"at+jwt","kid":"`+i.kid+`"}`, i.claimsText()),
		"header name in escapes":     i.raw(`{"\u0061lg":"none","typ":"at+jwt","kid":"`+i.kid+`"}`, i.claimsText()),
		"header in capitals":         i.raw(`{"ALG":"EdDSA","TYP":"at+jwt","KID":"`+i.kid+`"}`, i.claimsText()),
		"header in capitals too":     i.token(object{"ALG": "EdDSA", "KID": i.kid}, nil),
		"header with a kelvin sign":  i.token(object{"\u212aid": i.kid}, nil),
		"header twice the same kid":  i.raw(`{"alg":"EdDSA","typ":"at+jwt","kid":"`+i.kid+`","kid":"`+i.kid+`"}`, i.claimsText()),
		"header a list":              i.raw(`["EdDSA"]`, i.claimsText()),
		"header null":                i.raw(`null`, i.claimsText()),
		"header not JSON":            i.raw(`{alg:EdDSA}`, i.claimsText()),
		"header with a tail":         i.raw(`{"alg":"EdDSA","typ":"at+jwt","kid":"`+i.kid+`"}{}`, i.claimsText()),
		"header very deep":           i.raw(strings.Repeat(`{"a":`, 400)+"1"+strings.Repeat("}", 400), i.claimsText()),
	}
	for _, kid := range []string{
		"", " ", "../../../../dev/null", "..%2f..%2fkeys", "/proc/self/environ", "' or 1=1 --", "x' union select 'key", "*", "${jndi:ldap://x}", "\x00",
		i.kid + "\x00", " " + i.kid, strings.ToUpper(i.kid) + "X", "http://127.0.0.1:1/key", strings.Repeat("k", 2000), "ключ",
	} {
		out["kid "+kid] = i.token(object{"kid": kid}, nil)
	}
	return out
}

func (i *issuer) claimsText() string {
	raw, err := json.Marshal(i.claims)
	require.NoError(i.t, err)
	return string(raw)
}

// wrongClaims are correctly signed tokens with other claims than an access token of auth.
func wrongClaims(i *issuer) map[string]string {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	out := map[string]string{}
	claims := func(name string, values ...any) {
		for _, value := range values {
			raw, _ := json.Marshal(value)
			text := string(raw)
			if value == nil {
				text = "left out"
			}
			out["claim "+name+" "+text] = i.token(nil, object{name: value})
		}
	}
	claims("iss", nil, "", "https://evil.example", "Convoflow-auth", "convoflow-auth/", 1, []string{"convoflow-auth"})
	claims("aud", nil, "", "another", []string{}, []string{"another"}, []string{"another", "Convoflow"}, 1, []any{1}, object{"convoflow": true})
	claims("sub", nil, "", "admin", "' or 1=1", missingID+" ", 1, []string{missingID}, strings.ReplaceAll(missingID, "-", ""))
	claims("sid", nil, "", "x", 1, []string{missingID})
	claims("jti", nil, "", "x", 1)
	claims("role", nil, "", "root", "Admin", "admin ", []string{"admin"}, true, 1, object{"admin": true})
	claims("exp", nil, "", "never", "9999999999", true, []int64{at(time.Hour)}, 0, 1, -1, -1<<53, at(-2*time.Minute))
	claims("nbf", nil, "", "now", true, at(time.Hour), at(24*time.Hour)) // an hour: on a busy machine the tokens are sent minutes later
	claims("iat", nil, "", "now", true, at(time.Hour), at(24*time.Hour))
	text := i.claimsText()
	tail := func(members string) string { return strings.TrimSuffix(text, "}") + "," + members + "}" }
	for name, spelling := range map[string]string{
		"exp twice, the last over":          tail(`"exp":1`),
		"aud twice, the last another":       tail(`"aud":["another"]`),
		"role twice, the last root":         tail(`"role":"root"`),
		"exp null":                          tail(`"exp":null`),
		"exp far too large":                 tail(`"exp":1e400`),
		"exp in escapes, over":              tail(`"\u0065xp":1`),
		"claims a list":                     `[` + text + `]`,
		"claims null":                       `null`,
		"claims empty":                      ``,
		"claims not JSON":                   strings.TrimSuffix(text, "}"),
		"claims with a tail":                text + text,
		"claims text in a text":             `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`,
		"claims very deep":                  strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		"claims with a text that is no UTF": strings.Replace(text, i.claims["sub"].(string), "\xff\xfe", 1),
	} {
		out[name] = i.raw(i.headerText(), spelling)
	}
	for _, name := range []string{"iss", "aud", "sub", "sid", "jti", "role", "exp", "nbf", "iat"} {
		out["claim "+name+" in capitals"] = i.token(nil, object{name: nil, strings.ToUpper(name): i.claims[name]})
		out["claim "+name+" in capitals too"] = i.token(nil, object{strings.ToUpper(name): i.claims[name]})
		raw, _ := json.Marshal(i.claims[name])
		out["claim "+name+" twice, the same"] = i.raw(i.headerText(), tail(fmt.Sprintf("%q:%s", name, raw)))
	}
	for _, name := range []string{"sub", "sid", "iss"} {
		folded := strings.Replace(name, "s", "\u017f", 1) // a long s, which Go's JSON takes for an s
		out["claim "+name+" with a long s"] = i.token(nil, object{name: nil, folded: i.claims[name]})
		out["claim "+name+" with a long s too"] = i.token(nil, object{folded: missingID})
	}
	for _, name := range []string{"sub", "sid", "jti"} {
		out["claim "+name+" in capital digits"] = i.token(nil, object{name: "0199F0AB-CDEF-7ABC-8DEF-0123456789AB"})
	}
	out["5 kB"] = i.token(nil, object{"x": strings.Repeat("x", 5000)})
	out["20 kB"] = i.token(nil, object{"x": strings.Repeat("x", 15_000)})
	return out
}

func (i *issuer) headerText() string {
	raw, err := json.Marshal(i.header)
	require.NoError(i.t, err)
	return string(raw)
}

// encodings are other encodings of a valid token.
func encodings(i *issuer) map[string]string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	good := i.good
	parts := strings.Split(good, ".")
	last := strings.IndexByte(digits, good[len(good)-1])
	percent := strings.Replace(good, ".", "%2E", 1)
	return map[string]string{
		"padded":                       good + "==",
		"every part padded":            parts[0] + "=." + parts[1] + "=." + parts[2] + "=",
		"other unused bits":            good[:len(good)-1] + string(digits[last^1]),
		"one character more":           good + "A",
		"one character less":           good[:len(good)-1],
		"the alphabet of RFC 4648 § 4": parts[0] + "." + parts[1] + "." + base64.StdEncoding.EncodeToString(mustDecode(parts[2])),
		"in hexadecimal":               parts[0] + "." + parts[1] + "." + hex.EncodeToString(mustDecode(parts[2])),
		"a space inside":               parts[0] + ". " + parts[1] + "." + parts[2],
		"a tab inside":                 parts[0] + "." + parts[1] + "\t." + parts[2],
		"a tab in a part":              parts[0] + "." + parts[1][:9] + "\t" + parts[1][9:] + "." + parts[2],
		"a dot more":                   good + ".",
		"two dots more":                good + "..",
		"a dot before":                 "." + good,
		"a part more":                  good + "." + parts[2],
		"five parts":                   good + "." + parts[1] + "." + parts[2],
		"only dots":                    "..",
		"one part":                     parts[0],
		"percent":                      percent,
		"in capitals":                  strings.ToUpper(good),
		"JSON serialization":           `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"twice with a comma":           good + "," + good,
		"a semicolon":                  good + ";",
		"letters of another script":    strings.Replace(good, "e", "е", 1),
	}
}

// signatures are valid tokens with a wrong signature.
func signatures(t *testing.T, i *issuer) map[string]string {
	t.Helper()
	parts := strings.Split(i.good, ".")
	signature := mustDecode(parts[2])
	body := parts[0] + "." + parts[1] + "."
	with := func(raw []byte) string { return body + base64URL.EncodeToString(raw) }
	flipped := func(n int) []byte {
		out := slices.Clone(signature)
		out[n/8] ^= 1 << (n % 8)
		return out
	}
	other := strings.Split(i.token(nil, object{"jti": missingID}), ".")
	_, claims := decoded(t, i.good)
	raised := encoded(t, changed(claims, object{"sub": missingID}))
	out := map[string]string{
		"signature stripped":             body,
		"no third part":                  strings.TrimSuffix(body, "."),
		"signature of another token":     body + other[2],
		"claims of another token":        parts[0] + "." + other[1] + "." + parts[2],
		"claims changed":                 parts[0] + "." + raised + "." + parts[2],
		"half a signature":               with(signature[:32]),
		"signature twice":                with(append(slices.Clone(signature), signature...)),
		"signature of zeros":             with(make([]byte, 64)),
		"signature with a byte more":     with(append(slices.Clone(signature), 0)),
		"signature with the order added": with(nonCanonical(signature)),
		"signature of the claims only":   with(ed25519.Sign(i.key, []byte(parts[1]))),
		"header and claims swapped":      parts[1] + "." + parts[0] + "." + parts[2],
	}
	for _, n := range []int{0, 7, 255, 256, 300, 511} {
		out[fmt.Sprintf("bit %d of the signature flipped", n)] = with(flipped(n))
	}
	for _, n := range []int{3, 40} {
		claims := mustDecode(parts[1])
		claims[n] ^= 1
		out[fmt.Sprintf("bit %d of the claims flipped", n)] = parts[0] + "." + base64URL.EncodeToString(claims) + "." + parts[2]
	}
	return out
}

// nonCanonical returns the signature with the order of the group added to its second half: the equation holds, but RFC 8032
// forbids it.
func nonCanonical(signature []byte) []byte {
	order := []byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	}
	out := slices.Clone(signature)
	carry := 0
	for n, digit := range order {
		sum := int(out[32+n]) + int(digit) + carry
		out[32+n], carry = byte(sum), sum>>8
	}
	return out
}

func mustDecode(part string) []byte {
	raw, err := base64URL.DecodeString(part)
	if err != nil {
		panic(err)
	}
	return raw
}
