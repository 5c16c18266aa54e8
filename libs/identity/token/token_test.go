package token_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

const kid = "key-1"

var now = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

type world struct {
	key      ed25519.PrivateKey
	public   ed25519.PublicKey
	clock    *clock.Manual
	verifier *token.Verifier
	caller   identity.Caller
}

func newWorld(t *testing.T) world {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	c := clock.At(now)
	lookup := func(id string) (ed25519.PublicKey, error) {
		if id != kid {
			return nil, errors.New("unknown key id")
		}
		return public, nil
	}
	return world{key, public, c, token.NewVerifier(lookup, c), identity.Caller{AgentID: event.NewID(), SessionID: event.NewID(), Role: identity.Agent}}
}

func (w world) sign(t *testing.T) string {
	t.Helper()
	text, err := token.Signer{KeyID: kid, Key: w.key, Clock: w.clock}.Sign(w.caller, 15*time.Minute)
	require.NoError(t, err)
	return text
}

func TestASignedTokenIdentifiesItsCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := w.sign(t)
	require.Less(t, len(text), 1000)
	got, err := w.verifier.Verify(text)
	require.NoError(t, err)
	require.True(t, event.ValidID(got.TokenID))
	require.Equal(t, identity.Caller{AgentID: w.caller.AgentID, SessionID: w.caller.SessionID, TokenID: got.TokenID, Role: identity.Agent, Token: text}, got)

	w.clock.Advance(15*time.Minute + 59*time.Second)
	_, err = w.verifier.Verify(text)
	require.NoError(t, err, "clock differences up to 60 s are allowed")
	w.clock.Advance(2 * time.Second)
	_, err = w.verifier.Verify(text)
	require.Equal(t, "token_expired", fault.Of(err).Code)
	require.True(t, fault.Is(err, fault.Unauthenticated))
}

type object = map[string]any

// forge builds a token with any header and claims. sign returns the signature of the text before the second dot.
func forge(t *testing.T, header, claims object, sign func(text string) []byte) string {
	t.Helper()
	part := func(v object) string {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := part(header) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

func TestForgedAndInvalidTokensAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, otherKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	own := func(text string) []byte { return ed25519.Sign(w.key, []byte(text)) }
	other := func(text string) []byte { return ed25519.Sign(otherKey, []byte(text)) }
	with := func(method jwt.SigningMethod, key any) func(string) []byte {
		return func(text string) []byte {
			signature, err := method.Sign(text, key)
			require.NoError(t, err)
			return signature
		}
	}
	attackers := token.PublicJWK(kid, otherKey.Public().(ed25519.PublicKey))

	// build returns a valid token with changes; a nil value omits the member.
	build := func(sign func(string) []byte, header, claims object) string {
		h := object{"alg": "EdDSA", "typ": "at+jwt", "kid": kid}
		c := object{
			"iss": "convoflow-auth", "aud": []string{"convoflow"}, "sub": w.caller.AgentID, "sid": w.caller.SessionID, "jti": event.NewID(), "role": "agent",
			"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}
		for into, changes := range map[*object]object{&h: header, &c: claims} {
			for name, value := range changes {
				if (*into)[name] = value; value == nil {
					delete(*into, name)
				}
			}
		}
		return forge(t, h, c, sign)
	}
	good := build(own, nil, nil)
	_, err = w.verifier.Verify(good)
	require.NoError(t, err, "the token that the others are derived from is valid")
	parts := strings.Split(good, ".")
	last := strings.LastIndexByte(base64url, good[len(good)-1])

	headerText, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	claimsText, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	// raw returns a well signed token with further members in its header and claims.
	raw := func(header, claims string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(strings.TrimSuffix(string(headerText), "}")+header+"}")) + "." +
			base64.RawURLEncoding.EncodeToString([]byte(strings.TrimSuffix(string(claimsText), "}")+claims+"}"))
		return text + "." + base64.RawURLEncoding.EncodeToString(own(text))
	}
	_, err = w.verifier.Verify(raw(`,"x":1`, `,"y":{"sub":2}`))
	require.NoError(t, err, "unknown members are ignored")

	tests := map[string]string{
		"sub in capitals beside it":     raw("", `,"SUB":"`+event.NewID()+`"`),
		"sub with a long s":             raw("", `,"ſub":"`+event.NewID()+`"`),
		"sub with a long s, escaped":    raw("", `,"\u017fub":"`+event.NewID()+`"`),
		"exp with a capital":            raw("", `,"Exp":9999999999`),
		"kid with the sign of kelvin":   raw(`,"\u212aid":"k"`, ""),
		"alg in capitals beside it":     raw(`,"ALG":"none"`, ""),
		"the same sub twice":            raw("", `,"sub":"`+w.caller.AgentID+`"`),
		"sub twice, escaped":            raw("", `,"\u0073ub":"`+w.caller.AgentID+`"`),
		"the same kid twice":            raw(`,"kid":"`+kid+`"`, ""),
		"an unknown claim twice":        raw("", `,"x":1,"x":1`),
		"claims that are no UTF-8":      raw("", ",\"x\":\"\xff\""),
		"sub in capitals":               build(own, nil, object{"sub": strings.ToUpper(w.caller.AgentID)}),
		"sid in capitals":               build(own, nil, object{"sid": strings.ToUpper(w.caller.SessionID)}),
		"jti in capitals":               build(own, nil, object{"jti": strings.ToUpper(event.NewID())}),
		"a line feed in the header":     good[:5] + "\n" + good[5:],
		"a carriage return at the end":  good + "\r",
		"a line feed in the signature":  good[:len(good)-9] + "\n" + good[len(good)-9:],
		"empty":                         "",
		"no token":                      "hello",
		"alg none":                      build(func(string) []byte { return nil }, object{"alg": "none"}, nil),
		"alg None":                      build(func(string) []byte { return nil }, object{"alg": "None"}, nil),
		"no alg":                        build(own, object{"alg": nil}, nil),
		"alg in lower case":             build(own, object{"alg": "eddsa"}, nil),
		"alg Ed25519":                   build(own, object{"alg": "Ed25519"}, nil),
		"HS256 with the public key":     build(with(jwt.SigningMethodHS256, []byte(w.public)), object{"alg": "HS256"}, nil),
		"HS512 with the text of it":     build(with(jwt.SigningMethodHS512, []byte(token.PublicJWK(kid, w.public).X)), object{"alg": "HS512"}, nil),
		"RS256 with an own key":         build(with(jwt.SigningMethodRS256, rsaKey), object{"alg": "RS256"}, nil),
		"EdDSA named, HMAC signed":      build(with(jwt.SigningMethodHS256, []byte(w.public)), nil, nil),
		"another key, same kid":         build(other, nil, nil),
		"own jwk":                       build(other, object{"jwk": attackers}, nil),
		"jwk, though well signed":       build(own, object{"jwk": attackers}, nil),
		"jku":                           build(own, object{"jku": "https://evil.example/jwks.json"}, nil),
		"x5u":                           build(own, object{"x5u": "https://evil.example/cert.pem"}, nil),
		"x5c":                           build(own, object{"x5c": []string{"MIIB"}}, nil),
		"crit":                          build(own, object{"crit": []string{"exp"}}, nil),
		"crit b64":                      build(own, object{"crit": []string{"b64"}, "b64": false}, nil),
		"unknown kid":                   build(own, object{"kid": "key-2"}, nil),
		"kid is a path":                 build(own, object{"kid": "../../dev/null"}, nil),
		"kid is a number":               build(own, object{"kid": 1}, nil),
		"no kid":                        build(own, object{"kid": nil}, nil),
		"typ JWT":                       build(own, object{"typ": "JWT"}, nil),
		"a refresh token":               build(own, object{"typ": "rt+jwt"}, nil),
		"no typ":                        build(own, object{"typ": nil}, nil),
		"no iss":                        build(own, nil, object{"iss": nil}),
		"wrong iss":                     build(own, nil, object{"iss": "https://evil.example"}),
		"no aud":                        build(own, nil, object{"aud": nil}),
		"wrong aud":                     build(own, nil, object{"aud": []string{"other"}}),
		"no sub":                        build(own, nil, object{"sub": nil}),
		"sub is no id":                  build(own, nil, object{"sub": "' or 1=1"}),
		"no sid":                        build(own, nil, object{"sid": nil}),
		"no jti":                        build(own, nil, object{"jti": nil}),
		"no role":                       build(own, nil, object{"role": nil}),
		"role root":                     build(own, nil, object{"role": "root"}),
		"roles in a list":               build(own, nil, object{"role": []string{"admin"}}),
		"no exp":                        build(own, nil, object{"exp": nil}),
		"exp is text":                   build(own, nil, object{"exp": "never"}),
		"expired":                       build(own, nil, object{"exp": now.Add(-61 * time.Second).Unix()}),
		"no nbf":                        build(own, nil, object{"nbf": nil}),
		"not yet valid":                 build(own, nil, object{"nbf": now.Add(61 * time.Second).Unix()}),
		"no iat":                        build(own, nil, object{"iat": nil}),
		"issued in the future":          build(own, nil, object{"iat": now.Add(61 * time.Second).Unix()}),
		"stripped signature":            parts[0] + "." + parts[1] + ".",
		"without the last part":         parts[0] + "." + parts[1],
		"four parts":                    good + "." + parts[2],
		"half a signature":              good[:len(good)-43],
		"claims of another":             parts[0] + "." + strings.Split(build(other, nil, object{"role": "admin"}), ".")[1] + "." + parts[2],
		"padded base64":                 good + "==",
		"other unused bits":             good[:len(good)-1] + string(base64url[last^1]),
		"standard base64":               parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		"a line break inside":           parts[0] + "." + parts[1] + "\n." + parts[2],
		"a space at the end":            good + " ",
		"two tokens":                    good + "," + good,
		"longer than any token of ours": build(own, nil, object{"x": strings.Repeat("x", 5000)}),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := w.verifier.Verify(text)
			require.Error(t, err)
			require.True(t, fault.Is(err, fault.Unauthenticated), "%v", err)
			require.Empty(t, got)
			if len(text) > 100 {
				require.NotContains(t, err.Error(), text[:100], "the token is not logged")
			}
		})
	}
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func TestAuthenticateReadsOneBearerToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.sign(t)
	tests := map[string]struct {
		headers []string
		code    string
	}{
		"bearer":            {[]string{"Bearer " + good}, ""},
		"lower case":        {[]string{"bearer " + good}, ""},
		"upper case":        {[]string{"BEARER " + good}, ""},
		"none":              {nil, "not_authenticated"},
		"empty":             {[]string{""}, "invalid_token"},
		"no scheme":         {[]string{good}, "invalid_token"},
		"basic":             {[]string{"Basic " + good}, "invalid_token"},
		"no token":          {[]string{"Bearer "}, "invalid_token"},
		"two spaces":        {[]string{"Bearer  " + good}, "invalid_token"},
		"two headers":       {[]string{"Bearer " + good, "Bearer " + good}, "invalid_token"},
		"two in one header": {[]string{"Bearer " + good + ", Bearer " + good}, "invalid_token"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.Header["Authorization"] = tt.headers
			caller, err := w.verifier.Authenticate(r)
			if tt.code == "" {
				require.NoError(t, err)
				require.Equal(t, w.caller.AgentID, caller.AgentID)
				return
			}
			require.Equal(t, tt.code, fault.Of(err).Code)
			require.Equal(t, 401, fault.Status(err))
		})
	}
}

func TestWithoutKeysTheClientMayRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v := token.NewVerifier(func(string) (ed25519.PublicKey, error) { return nil, token.ErrNoKeys }, w.clock)
	_, err := v.Verify(w.sign(t))
	require.Equal(t, 503, fault.Status(err))
	require.Positive(t, fault.Of(err).RetryAfter)
}
