package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// object is a JSON object.
type object = map[string]any

var base64URL = base64.RawURLEncoding

// TestTokens tries tokens that are forged or flawed on the gateway and on each service behind it. All but auth trust a key of
// the test beside those of auth, so that a token can be valid except for one claim.
func TestTokens(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, f.settings()...)
	trusted := newIssuer(t)
	published := proxyAuth(t, s.unit("auth").url, trusted)
	for _, u := range s.units {
		if u.name != "auth" {
			u.environ = append(u.environ, "AUTH_URL="+published)
		}
	}
	s.start()
	c := newUsers(s)
	header, claims := decoded(t, c.admin.token)
	trusted.header, trusted.claims = maps.Clone(header), claims
	trusted.header["kid"] = trusted.kid

	for _, u := range s.units {
		at := c.in(t).admin.agent
		at.url = u.url
		path, from := "/clients", trusted
		switch u.name {
		case "auth":
			path, from = "/auth/me", newOutsider(t, published, header, claims, c.admin.token)
		case "calls":
			path = "/calls"
		case "notify":
			path = "/webhooks/deliveries"
		}
		t.Run(u.name, func(t *testing.T) { requireTokensRefused(t, at, path, from) })
	}
	t.Run("every operation", func(t *testing.T) {
		for _, u := range s.units {
			t.Run(u.name, func(t *testing.T) {
				c := c.in(t)
				c.checkInvalidTokens(u.serves(operations(t)), u.url, func(_, claims object) string { return trusted.token(nil, claims) })
			})
		}
	})
}

func (s *stack) unit(name string) *unit {
	return s.units[slices.IndexFunc(s.units, func(u *unit) bool { return u.name == name })]
}

// serves returns the operations that the unit serves: all at the gateway, its own at a service.
func (u *unit) serves(all []operation) []operation {
	return slices.DeleteFunc(all, func(op operation) bool { return u.name != "gateway" && !strings.HasPrefix(op.OperationID, u.name+".") })
}

// issuer makes tokens.
type issuer struct {
	t              *testing.T
	kid            string
	key            ed25519.PrivateKey
	public         string // what the tokens are verified with, in base64url; not that of key if the issuer is a stranger
	header, claims object // of a valid token
	good           string // a right token
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return &issuer{t: t, kid: "test", key: key, public: base64URL.EncodeToString(public)}
}

// newOutsider returns an issuer that knows everything about auth except its key.
func newOutsider(t *testing.T, auth string, header, claims object, good string) *issuer {
	i := newIssuer(t)
	i.header, i.claims, i.good, i.kid = header, claims, good, header["kid"].(string)
	var set struct{ Keys []object }
	require.NoError(t, json.Unmarshal(get(t, auth+"/.well-known/jwks.json"), &set))
	for _, key := range set.Keys {
		if key["kid"] == i.kid {
			i.public = key["x"].(string)
		}
	}
	return i
}

// proxyAuth serves auth, with the key of an issuer besides its own.
func proxyAuth(t *testing.T, auth string, i *issuer) string {
	t.Helper()
	target, err := url.Parse(auth)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusServiceUnavailable) // auth is not up yet
		},
	}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, r *http.Request) {
		var set struct {
			Keys []object `json:"keys"`
		}
		theirs := httptest.NewRecorder()
		proxy.ServeHTTP(theirs, r)
		if theirs.Code != http.StatusOK || json.Unmarshal(theirs.Body.Bytes(), &set) != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		set.Keys = append(set.Keys, object{"kty": "OKP", "crv": "Ed25519", "kid": i.kid, "x": i.public, "use": "sig", "alg": "EdDSA"})
		maps.Copy(w.Header(), theirs.Header())
		w.Header().Del("Content-Length")
		_ = json.NewEncoder(w).Encode(set)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// token returns a valid token with changes. A nil value removes the member.
func (i *issuer) token(header, claims object) string {
	return signed(i.t, changed(i.header, header), changed(i.claims, claims), i.key)
}

// signedWith returns token with another signature.
func (i *issuer) signedWith(sign func(text []byte) []byte, header, claims object) string {
	text := encoded(i.t, changed(i.header, header)) + "." + encoded(i.t, changed(i.claims, claims))
	return text + "." + base64URL.EncodeToString(sign([]byte(text)))
}

// raw returns a token with exactly these JSON texts.
func (i *issuer) raw(header, claims string) string {
	text := base64URL.EncodeToString([]byte(header)) + "." + base64URL.EncodeToString([]byte(claims))
	return text + "." + base64URL.EncodeToString(ed25519.Sign(i.key, []byte(text)))
}

func changed(o, changes object) object {
	o = maps.Clone(o)
	for name, value := range changes {
		if o[name] = value; value == nil {
			delete(o, name)
		}
	}
	return o
}

func encoded(t testing.TB, o object) string {
	t.Helper()
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	return base64URL.EncodeToString(raw)
}

func signed(t testing.TB, header, claims object, key ed25519.PrivateKey) string {
	t.Helper()
	text := encoded(t, header) + "." + encoded(t, claims)
	return text + "." + base64URL.EncodeToString(ed25519.Sign(key, []byte(text)))
}

// decoded returns the header and claims of a token.
func decoded(t testing.TB, token string) (header, claims object) {
	t.Helper()
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	for i, o := range []*object{&header, &claims} {
		raw, err := base64URL.DecodeString(parts[i])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, o))
	}
	return header, claims
}

// requireTokensRefused requires that a program accepts a valid token and refuses all others, with the JSON error and never with a 5xx.
func requireTokensRefused(t *testing.T, a *agent, path string, from *issuer) {
	t.Helper()
	if from.good == "" {
		from.good = from.token(nil, nil)
	}
	from.t = t
	send := func(t *testing.T, change func(r *http.Request)) (int, string) {
		a := a.as(t, "")
		request := a.request(http.MethodGet, path, nil)
		change(request)
		response, err := a.http.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode, response.Header.Get("WWW-Authenticate")
	}
	right := func(t *testing.T) {
		status, _ := send(t, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+from.good) })
		require.Equal(t, http.StatusOK, status, "what the forged ones start from is right")
	}
	right(t)
	tries := forgedRequests(from.good)
	for name, token := range forgedTokens(t, from) {
		tries[name] = func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	require.Greater(t, len(tries), 90)
	for name, change := range tries {
		t.Run(name, func(t *testing.T) {
			status, challenge := send(t, change)
			require.Equal(t, http.StatusUnauthorized, status)
			require.NotEmpty(t, challenge, "WWW-Authenticate")
		})
	}
	right(t)
}
