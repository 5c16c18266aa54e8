package rpc_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAllInvalidFieldsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		want []string
	}{
		"nothing": {`{}`, []string{`missing ["body","name"]`, `missing ["body","size"]`}},
		"too small": {`{"name":"","size":0,"weight":0,"tags":[]}`, []string{
			`string_too_short ["body","name"]`, `greater_than_equal ["body","size"]`, `too_short ["body","tags"]`, `greater_than ["body","weight"]`}},
		"too large": {`{"name":"12345678901","size":1000000000000,"weight":10.5,"tags":["a","b","c","d"]}`, []string{
			`string_too_long ["body","name"]`, `less_than ["body","size"]`, `too_long ["body","tags"]`, `less_than_equal ["body","weight"]`}},
		"other types": {`{"name":1,"size":"1","weight":"1","hot":"yes","tags":"a","extra":[],"email":1}`, []string{
			`string_type ["body","email"]`, `dict_type ["body","extra"]`, `bool_type ["body","hot"]`, `string_type ["body","name"]`,
			`int_type ["body","size"]`, `list_type ["body","tags"]`, `float_type ["body","weight"]`}},
		"other forms": {`{"name":"a","size":1.5,"kind":"medium","email":"a@b","owner":"1","code":"A1","due":"tomorrow","box":{"b":1}}`, []string{
			`extra_forbidden ["body","box","b"]`, `string_pattern_mismatch ["body","code"]`, `datetime_parsing ["body","due"]`, `value_error ["body","email"]`,
			`enum ["body","kind"]`, `uuid_parsing ["body","owner"]`, `int_type ["body","size"]`}},
		"inside":              {`{"name":"a","size":1,"tags":["a","abcde"],"parts":[{},{"at":"x"}]}`, []string{`missing ["body","parts",0,"at"]`, `datetime_parsing ["body","parts",1,"at"]`, `string_too_long ["body","tags",1]`}},
		"null":                {`{"name":null,"size":null}`, []string{`string_type ["body","name"]`, `int_type ["body","size"]`}},
		"a list":              {`[]`, []string{`dict_type ["body"]`}},
		"only null":           {`null`, []string{`dict_type ["body"]`}},
		"text":                {`"x"`, []string{`dict_type ["body"]`}},
		"U+0000":              {`{"name":"a\u0000","size":1,"extra":{"a":["\u0000"],"\u0000":1}}`, []string{`string_unicode ["body","extra","a",0]`, `string_unicode ["body","extra"]`, `string_unicode ["body","name"]`}},
		"not UTF-8":           {"{\"name\":\"a\xff\",\"size\":1}", []string{`string_unicode ["body"]`}},
		"beyond the field":    {`{"name":"a","size":999999999999}`, []string{`value_error ["body"]`}},
		"beyond any number":   {`{"name":"a","size":1,"weight":1e9999999}`, []string{`value_error ["body","weight"]`}},
		"a million digits":    {`{"name":"a","size":1e999999,"extra":{"x":1e-999999}}`, []string{`value_error ["body","extra","x"]`, `value_error ["body","size"]`}},
		"digits without end":  {`{"name":"a","size":1` + strings.Repeat("0", 5000) + `}`, []string{`value_error ["body","size"]`}},
		"also the method's":   {`{"name":"unlucky","size":0,"weight":0}`, []string{`value_error ["body","name"]`, `greater_than_equal ["body","size"]`, `greater_than ["body","weight"]`}},
		"only the contract's": {`{"name":"broken","size":0}`, []string{`greater_than_equal ["body","size"]`}},
		"a year out of range": {`{"name":"a","size":1,"due":"9999-12-31T23:59:59-01:00"}`, []string{`datetime_parsing ["body","due"]`}},
	}
	s := start(t, nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, wrong(t, s.do(t, request{method: "POST", target: "/things", body: tt.body})))
		})
	}
}

func TestParametersAreConvertedAndValidated(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	w := s.do(t, request{method: "GET", target: "/things?limit=7&kind=big&ratio=0.5&flag=true&since=2026-11-24T10:00:00&count=-3&q=two+words&unknown=1&limit=9", header: with("X-Mode", "abc")})
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.JSONEq(t, `[{"Limit":7,"Cursor":"","Words":"two words","Kind":"big","Ratio":0.5,"Flag":true,"Since":"2026-11-24T10:00:00Z","Count":-3,"Mode":"abc"}]`, w.Body.String())

	require.Equal(t, http.StatusOK, s.do(t, request{method: "GET", target: "/things?q=&cursor"}).Code, "a search in which nothing was typed, the first page")
	for target, want := range map[string]string{
		"/things?kind=":                        `string_too_short ["query","kind"]`,
		"/things?limit=":                       `string_too_short ["query","limit"]`,
		"/things?limit=0":                      `greater_than_equal ["query","limit"]`,
		"/things?limit=501":                    `less_than_equal ["query","limit"]`,
		"/things?limit=x":                      `int_parsing ["query","limit"]`,
		"/things?limit=1.5":                    `int_parsing ["query","limit"]`,
		"/things?limit=9999999999999999999":    `int_parsing ["query","limit"]`,
		"/things?limit=%2B5":                   `value_error ["query","limit"]`,
		"/things?count=1000":                   `value_error ["query","count"]`,
		"/things?ratio=NaN":                    `float_parsing ["query","ratio"]`,
		"/things?ratio=1e999":                  `float_parsing ["query","ratio"]`,
		"/things?ratio=1e-999999":              `value_error ["query","ratio"]`,
		"/things?ratio=0x1p-2":                 `value_error ["query","ratio"]`,
		"/things?flag=maybe":                   `bool_parsing ["query","flag"]`,
		"/things?kind=medium":                  `enum ["query","kind"]`,
		"/things?since=yesterday":              `datetime_parsing ["query","since"]`,
		"/things?since=0000-01-01T00:00:00Z":   `datetime_parsing ["query","since"]`,
		"/things?cursor=%00":                   `string_unicode ["query","cursor"]`,
		"/things?cursor=%ff":                   `string_unicode ["query","cursor"]`,
		"/things?cursor=123456789012345678901": `string_too_long ["query","cursor"]`,
	} {
		require.Equal(t, []string{want}, wrong(t, s.do(t, request{method: "GET", target: target})), target)
	}
	require.Equal(t, []string{`string_too_long ["header","X-Mode"]`}, wrong(t, s.do(t, request{method: "GET", target: "/things", header: with("X-Mode", "abcd")})))
	require.Equal(t, []string{`string_too_long ["body","name"]`}, wrong(t, s.do(t, request{method: "PATCH", target: "/things/7", body: `{"name":"123456"}`})))
	require.JSONEq(t, `[{"Limit":50,"Cursor":"","Words":"","Kind":"","Ratio":null,"Flag":null,"Since":"0001-01-01T00:00:00Z","Count":0,"Mode":""}]`,
		s.do(t, request{method: "GET", target: "/things"}).Body.String(), "the default is in the contract")
}

func TestAnIDThatIsNotAUUIDIsReplacedByTheNilUUID(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, id := range []string{"7", "a%2Fb", "%00", thingID + "0"} {
		w := s.do(t, request{method: "GET", target: "/things/" + id})
		require.JSONEq(t, `{"ID":"00000000-0000-0000-0000-000000000000"}`, w.Body.String(), "the method finds nothing and responds with its own 404")
	}
}

func TestOnlyFieldsOfTheContractReachTheMethod(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	w := s.do(t, request{method: "POST", target: "/things", body: `{
		"name":"a","size":1,"secret":"x","Counter":5,"KIND":"bogus","Hot":true,"unknown":{"deep":1},
		"email":null,"due":"2026-11-24T15:30:00+05:30","parts":[{"at":"2026-11-24 10:00","KIND":"bogus"}],"extra":{"Any":{"thing":1.50}},"labels":{"K":"v"}}`})
	require.Equal(t, http.StatusCreated, w.Code, w.Body)
	var got createRequest
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, "a", got.Name)
	require.Empty(t, got.Secret)
	require.Zero(t, got.Counter)
	require.Empty(t, got.Kind, "KIND is not kind, and has not been validated")
	require.False(t, got.Hot)
	require.Equal(t, "2026-11-24T10:00:00Z", got.Due.Format("2006-01-02T15:04:05Z07:00"))
	require.Equal(t, "2026-11-24T10:00:00Z", got.Parts[0].At.Format("2006-01-02T15:04:05Z07:00"), "nested times without a zone are UTC too")
	require.Empty(t, got.Parts[0].Kind)
	require.JSONEq(t, `{"Any":{"thing":1.50}}`, string(got.Extra), "an object without defined properties is not changed")
	require.Equal(t, map[string]string{"K": "v"}, got.Labels)
}

func TestBodiesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tests := map[string]struct {
		req    request
		status int
		code   string
	}{
		"not JSON":          {request{body: `{"name":`}, 400, "malformed_json"},
		"empty":             {request{body: ``}, 400, "malformed_json"},
		"two values":        {request{body: `{} {}`}, 400, "malformed_json"},
		"nested too deeply": {request{body: strings.Repeat("[", 20000)}, 400, "malformed_json"},
		"truncated":         {request{reader: io.MultiReader(strings.NewReader(`{"name":`), truncated{})}, 400, "body_cut"},
		"too large":         {request{body: `"` + strings.Repeat("x", 1<<20) + `"`}, 413, "body_too_large"},
		"another type":      {request{body: `a=b`, header: with("Content-Type", "application/x-www-form-urlencoded")}, 415, "unsupported_content_type"},
		"no type":           {request{body: `{}`, header: with("Content-Type", "")}, 415, "unsupported_content_type"},
		"a broken type":     {request{body: `{}`, header: with("Content-Type", "application/json; =")}, 415, "unsupported_content_type"},
		"an invalid form":   {request{target: "/login", body: `a=%zz`, header: with("Content-Type", "application/x-www-form-urlencoded")}, 400, "malformed_form"},
		"JSON, not a form":  {request{target: "/login", body: `{}`}, 415, "unsupported_content_type"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.req.method = "POST"
			if tt.req.target == "" {
				tt.req.target = "/things"
			}
			w := s.do(t, tt.req)
			require.Equal(t, tt.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), `"code":"`+tt.code+`"`)
		})
	}
}

// truncated is a connection that ends in the middle of a body.
type truncated struct{}

func (truncated) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAClientThatStallsInItsBodyTimesOut(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(start(t, nil).api)
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "PATCH /things/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", thingID, agentToken)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.NoError(t, res.Body.Close())
}

func TestForms(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=UTF-8"}, "Authorization": nil}
	w := s.do(t, request{method: "POST", target: "/login", body: "username=a%40b.co&password=p%26ss+word&grant_type=password", header: form})
	require.Equal(t, 200, w.Code, w.Body)
	require.JSONEq(t, `{"username":"a@b.co","password":"p&ss word"}`, w.Body.String())
	require.Equal(t, []string{`string_too_short ["body","password"]`, `string_unicode ["body","password"]`, `value_error ["body","username"]`},
		wrong(t, s.do(t, request{method: "POST", target: "/login", body: "username=a&password=%00", header: form})))
	require.Equal(t, []string{`missing ["body","password"]`, `missing ["body","username"]`}, wrong(t, s.do(t, request{method: "POST", target: "/login", header: form})))
}

func TestABodyMayBeOmitted(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	w := s.do(t, request{method: "PATCH", target: "/things/" + thingID, header: with("Content-Type", "")})
	require.Equal(t, 200, w.Code, w.Body)
	require.JSONEq(t, `{"ID":"`+thingID+`","name":null}`, w.Body.String())
	for _, body := range []string{`{}`, `{"unknown":1}`, `{"NAME":"x"}`} {
		require.Equal(t, []string{`too_short ["body"]`}, wrong(t, s.do(t, request{method: "PATCH", target: "/things/" + thingID, body: body})), "an update without known fields")
	}
	require.Equal(t, 200, s.do(t, request{method: "PATCH", target: "/things/" + thingID, body: `{"unknown":1,"name":"x"}`}).Code)
}

// FuzzBind sends arbitrary bodies and parameters. The response must be valid and never a 500.
func FuzzBind(f *testing.F) {
	for _, seed := range []string{`{}`, `null`, `{"name":"a","size":1}`, `{"name":"a","size":1e400,"tags":[1]}`, "{\"name\":\"\xff\"}", `{"parts":[{"at":"2026-11-24 10:00"}]}`, `{"due":"9999-12-31T23:59:59-01:00"}`, `[[[[`, `{"box":{"x":1}}`, `1e9999999`, `{"a":{"b":"\u0000"}}`, `{"NAME":"x"}`} {
		f.Add([]byte(seed), seed)
	}
	s := start(f, nil)
	f.Fuzz(func(t *testing.T, body []byte, text string) {
		w := s.do(t, request{method: "POST", target: "/things", body: string(body)})
		require.Contains(t, []int{201, 400, 413, 422}, w.Code, w.Body)
		require.True(t, json.Valid(w.Body.Bytes()))
		w = s.do(t, request{method: "GET", target: "/things?" + strings.Map(printable, text)})
		require.Contains(t, []int{200, 422}, w.Code, w.Body)
	})
}

// printable drops characters that a request line cannot contain.
func printable(r rune) rune {
	if r <= ' ' || r > '~' || r == '#' {
		return -1
	}
	return r
}
