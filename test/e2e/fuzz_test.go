package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

const (
	requestsPerOperation = 38 // requests per operation: 1,500 in all
	megabyte             = 1 << 20
	defaultSeed          = 20261124
)

// fuzz sends invalid and unusual requests to every operation: wrong types, bounds, strange texts, malformed bodies. The
// response is always one of the contract, and never a 5xx: the transport of the agents verifies it. The same FUZZ_SEED, an
// integer, sends the same requests, except for ids.
func fuzz(t *testing.T, s *stack, c users) {
	t.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("FUZZ_SEED"), strconv.Itoa(defaultSeed)), 10, 64)
	require.NoError(t, err, "FUZZ_SEED")
	t.Logf("FUZZ_SEED=%d", seed)
	type target struct {
		operation
		caller *agent
		id     string
		body   any
	}
	var targets []target
	all := operations(t)
	slices.SortFunc(all, func(a, b operation) int { return cmp.Compare(a.OperationID, b.OperationID) })
	for _, op := range all { // everyone logs in first: wrong passwords delay logins from our address
		caller, owner := c.owner, c.owner
		if op.access() == "admin" {
			caller, owner = c.admin, c.other
		}
		switch op.OperationID {
		case "auth.logout", "gateway.logout", "auth.change_password", "auth.remove_session": // these end sessions
			caller = user{agent: s.newAgent()}
			owner = caller
		}
		it := target{operation: op, caller: caller.agent, id: missingID}
		if policies[op.OperationID].takesObject() {
			it.id = owner.object(op.OperationID, true)
		}
		it.body = caller.body(op, it.id)
		targets = append(targets, it)
	}
	statuses := map[int]int{}
	for _, it := range targets {
		t.Run(it.OperationID, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			groups := mutationsOf(it.operation)
			for _, group := range groups {
				rng.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
			}
			at := it.caller.as(t, it.caller.token)
			held := at.http.Transport.(*contract)
			held.anything = true
			for n := range requestsPerOperation {
				x := newExchange(t, it.operation, it.id, it.body)
				group := groups[n%len(groups)]
				chosen := []mutation{group[n/len(groups)%len(group)]}
				for len(chosen) < 3 && rng.IntN(4) == 0 {
					group := groups[rng.IntN(len(groups))]
					chosen = append(chosen, group[rng.IntN(len(group))])
				}
				var names []string
				for _, m := range chosen {
					m.change(x, rng)
					names = append(names, m.name)
				}
				held.t = named{t, fmt.Sprintf("seed %d, request %d: %s", seed, n, strings.Join(names, ", "))}
				statuses[x.send(at)]++
			}
		})
	}
	t.Logf("statuses: %v", statuses)
	require.True(t, s.isReady(), "the platform is well after all that")
	require.NotContains(t, s.log(), "panic")
}

// named is a test that adds to every error what it was doing.
type named struct {
	testing.TB
	doing string
}

func (n named) Errorf(format string, args ...any) {
	n.Helper()
	n.TB.Errorf("%s\n"+format, append([]any{n.doing}, args...)...)
}

// exchange is a request that mutations change.
type exchange struct {
	op          operation
	id          string // in the path, not escaped
	query       []string
	header      http.Header
	contentType string
	fields      map[string]string // of a body: JSON texts, or texts of a form
	raw         []byte            // the body as a whole, if not nil
}

func newExchange(t testing.TB, op operation, id string, body any) *exchange {
	t.Helper()
	x := &exchange{op: op, id: id, header: http.Header{}, fields: map[string]string{}}
	switch body := body.(type) {
	case nil:
	case *form:
		x.contentType = "multipart/form-data; boundary=" + boundary
	case url.Values:
		x.contentType = "application/x-www-form-urlencoded"
		for name := range body {
			x.fields[name] = body.Get(name)
		}
	case map[string]any:
		x.contentType = "application/json"
		for name, value := range body {
			raw, err := json.Marshal(value)
			require.NoError(t, err)
			x.fields[name] = string(raw)
		}
	}
	return x
}

// send sends the request and returns the status.
func (x *exchange) send(a *agent) int {
	a.t.Helper()
	path := x.op.at(url.PathEscape(x.id))
	if len(x.query) > 0 {
		path += "?" + strings.Join(x.query, "&")
	}
	body := x.raw
	if body == nil {
		body = x.composed(a.t)
	}
	request := a.request(x.op.method, path, bytes.NewReader(body))
	request.ContentLength = int64(len(body))
	if len(body) == 0 {
		request.Body = http.NoBody
	}
	if x.contentType != "" {
		request.Header.Set("Content-Type", x.contentType)
	}
	maps.Copy(request.Header, x.header)
	response, err := a.http.Do(request)
	require.NoError(a.t, err, "%s %s", x.op.method, path)
	require.NoError(a.t, response.Body.Close())
	return response.StatusCode
}

// boundary is the boundary of all forms.
const boundary = "fuzz"

func (x *exchange) composed(t testing.TB) []byte {
	var out bytes.Buffer
	names := slices.Sorted(maps.Keys(x.fields))
	switch {
	case strings.HasPrefix(x.contentType, "multipart/"):
		for _, name := range names {
			fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, name, x.fields[name])
		}
		fmt.Fprintf(&out, "--%s\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"x.ogg\"\r\n\r\n%s\r\n--%[1]s--\r\n", boundary, salesCall(t))
	case x.contentType == "application/x-www-form-urlencoded":
		values := url.Values{}
		for _, name := range names {
			values.Set(name, x.fields[name])
		}
		out.WriteString(values.Encode())
	case len(names) > 0:
		members := make([]string, len(names))
		for i, name := range names {
			members[i] = strconv.Quote(name) + ":" + x.fields[name]
		}
		out.WriteString("{" + strings.Join(members, ",") + "}")
	}
	return out.Bytes()
}

// mutation makes a request invalid or unusual in one way.
type mutation struct {
	name   string
	change func(x *exchange, rng *rand.Rand)
}

// mutationsOf returns the mutations in groups, each of which is used.
func mutationsOf(op operation) [][]mutation {
	all := everywhere()
	for _, p := range op.Parameters {
		all = append(all, parameterMutations(p.Value))
	}
	if op.RequestBody == nil {
		return all
	}
	for contentType, media := range op.RequestBody.Value.Content {
		all = append(all, bodies()...)
		values, kind := jsons(), "JSON"
		if contentType != "application/json" {
			values, kind = texts(), "text"
		}
		if contentType == "multipart/form-data" {
			all = append(all, multiparts()...)
		}
		for _, name := range slices.Sorted(maps.Keys(propertiesOf(media.Schema.Value))) {
			group := []mutation{{name + " left out", func(x *exchange, _ *rand.Rand) { delete(x.fields, name) }}}
			for _, value := range values {
				group = append(group, mutation{fmt.Sprintf("%s is the %s %.60q", name, kind, value), func(x *exchange, _ *rand.Rand) { x.fields[name] = value }})
			}
			all = append(all, group)
		}
	}
	return all
}

// propertiesOf returns the properties of a schema and its parts.
func propertiesOf(s *openapi3.Schema) openapi3.Schemas {
	out := maps.Clone(s.Properties)
	for _, part := range s.AllOf {
		maps.Copy(out, propertiesOf(part.Value))
	}
	return out
}

func parameterMutations(p *openapi3.Parameter) (all []mutation) {
	for _, text := range texts() {
		name := fmt.Sprintf("%s %s is %.60q", p.In, p.Name, text)
		switch p.In {
		case "path":
			all = append(all, mutation{name, func(x *exchange, _ *rand.Rand) { x.id = text }})
		case "query":
			all = append(all, mutation{name, func(x *exchange, _ *rand.Rand) {
				x.query = append(x.query, url.QueryEscape(p.Name)+"="+url.QueryEscape(text))
			}}, mutation{name + " and something else", func(x *exchange, rng *rand.Rand) {
				pair := []string{p.Name + "=" + url.QueryEscape(text), p.Name + "=" + url.QueryEscape(texts()[rng.IntN(len(texts()))])}
				rng.Shuffle(2, func(i, j int) { pair[i], pair[j] = pair[j], pair[i] })
				x.query = append(x.query, pair...)
			}})
		case "header":
			if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) { // no client can send those
				all = append(all, mutation{name, func(x *exchange, _ *rand.Rand) { x.header.Set(p.Name, text) }})
			}
		}
	}
	return all
}

// texts are for parameters and forms.
func texts() []string {
	return []string{
		"", " ", "0", "-0", "+1", "-1", "007", "1.5", ".5", "1e3", "1e400", "0x10", "1_000", "NaN", "Infinity", "500", "501", "100001",
		"9223372036854775807", "9223372036854775808", "-9223372036854775809", strings.Repeat("9", 400),
		"true", "TRUE", "t", "null", "undefined", "[]", "{}", `"`, "'", "' or 1=1 --", "%", "%zz", "%00", "_", "\\", "../../etc/passwd", "a/b", ".", "..", ";", "&", "=", "*", "W/\"x\"",
		"\x00", "a\x00b", "\xff\xfe", "\xed\xa0\x80", "ünïcödé", "🎉", "\u202egnirts", "\ufeff", "e\u0301", "ﷺ", "İ", "\r\nX: y", "\t",
		missingID, strings.ToUpper(missingID), "{" + missingID + "}", strings.ReplaceAll(missingID, "-", ""), missingID + "0", "00000000-0000-0000-0000-000000000000",
		"0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-24T24:00:00Z",
		"2026-11-24T09:30:60Z", "2026-11-24T09:30:00+25:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-11-24", "2026-11-24 09:30", "2026-11-24T09:30:00.123456789123Z",
		"completed", "COMPLETED", "bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=0-", "bytes=99999999999999999999-", "bytes=0-0,0-0,1-1", "bytes=" + strings.Repeat("0-0,", 200) + "0-0",
		strings.Repeat("x", 201), strings.Repeat("x", 501), strings.Repeat("🎉", 200), strings.Repeat("x", 8000), strings.Repeat("(", 190), strings.Repeat("\"", 199), strings.Repeat("-a or ", 30),
		"eyJhIjoxfQ", "eyJhIjoxfQ==", "bnVsbA", "W10", "e30",
	}
}

// jsons are for members of JSON bodies.
func jsons() []string {
	quoted := func(s string) string { return strconv.QuoteToASCII(s) }
	out := []string{
		"null", "true", "0", "-0", "-1", "1.5", "1e3", "1e400", "-1e400", "1e-400", "1E999999999", "9223372036854775807", "9223372036854775808", strings.Repeat("9", 5000),
		"[]", "{}", "[null]", "[[]]", `[""]`, `{"":{}}`, `{"$ref":"#"}`, `{"__proto__":{}}`, `"\u0000"`, `"a\u0000b"`, `"\ud800"`, `"\udfff\ud800"`, `"\u202e"`, "\"\xff\"", "\"\xed\xa0\x80\"",
		"\"\t\"", `"\x"`, "NaN", "'x'", "", "undefined", "01", "+1", ".5", "1.", "truee", `"`,
		nested("[", "]", 10_000), nested("[", "]", 9_990), nested(`{"a":`, "}", 10_000), nested("[", "]", 500), nested(`{"a":`, "}", 500),
		quoted(strings.Repeat("x", megabyte)), quoted(strings.Repeat("x", megabyte-1000)), quoted(strings.Repeat("x", 10_001)), quoted(strings.Repeat("x", 501)), quoted(strings.Repeat("x", 300)),
		`"` + strings.Repeat("🎉", 200) + `"`, `"` + strings.Repeat("ﷺ", 100) + `"`, `" "`, `"\n"`, `"x@y"`, `"x@y.z"`, `"\"@x.yz"`, `"@"`, `"+1 (555) 0100"`, `"tel:+++"`, `"٠١٢٣٤٥٦٧٨٩"`, `"00000000000000000000"`,
	}
	for _, text := range texts() {
		if utf8.ValidString(text) && !strings.ContainsRune(text, 0) {
			raw, _ := json.Marshal(text)
			out = append(out, string(raw))
		}
	}
	return out
}

func nested(open, end string, depth int) string {
	middle := ""
	if strings.HasSuffix(open, ":") {
		middle = "1"
	}
	return strings.Repeat(open, depth) + middle + strings.Repeat(end, depth)
}

// everywhere are the mutations of any request.
func everywhere() [][]mutation {
	var queries, headers, types []mutation
	for _, query := range []string{
		"%zz", "a=%", ";", "=", "&&&&", "limit[]=1", "limit=1;skip=2", "limit", "unknown=1", "%00=%00", "_method=DELETE", "access_token=x", strings.Repeat("a=1&", 1000), "x=" + strings.Repeat("y", 8000),
	} {
		queries = append(queries, mutation{fmt.Sprintf("query %.40q", query), func(x *exchange, _ *rand.Rand) { x.query = append(x.query, query) }})
	}
	for _, header := range [][2]string{
		{"X-Request-ID", strings.Repeat("x", 8000)}, {"X-Request-ID", "<script>🎉"}, {"traceparent", "00-zz"}, {"traceparent", "ff-" + strings.Repeat("0", 400)}, {"tracestate", strings.Repeat("a=1,", 500)},
		{"Accept", "text/xml"}, {"Accept", ";;;"}, {"Accept-Encoding", "gzip;q=x, br, *;q=0"}, {"Accept-Language", "tlh"}, {"Content-Language", "x"}, {"X-HTTP-Method-Override", "DELETE"},
		{"Origin", "null"}, {"Forwarded", "for=\"[::1]\""}, {"X-Forwarded-For", "' or 1=1"}, {"X-Forwarded-Host", "evil.example"}, {"User-Agent", strings.Repeat("u", 8000)}, {"User-Agent", "\xff\xfe"},
		{"Cookie", strings.Repeat("a=b; ", 500)}, {"If-None-Match", "*"}, {"If-Match", "\"x\""}, {"If-Modified-Since", "yesterday"}, {"If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"}, {"If-Range", "x"},
		{"Range", "bytes=0-0,5-1,x"}, {"Range", "lines=1-"}, {"Content-Encoding", "gzip"}, {"Content-Range", "bytes 0-1/2"}, {"Content-MD5", "x"}, {"TE", "trailers"}, {"Upgrade", "websocket"}, {"Last-Event-ID", "\xff"},
	} {
		headers = append(headers, mutation{fmt.Sprintf("header %s: %.40q", header[0], header[1]), func(x *exchange, _ *rand.Rand) { x.header.Set(header[0], header[1]) }})
	}
	for _, contentType := range []string{
		"text/plain", "application/xml", "application/json", "application/json; charset=utf-16", "application/JSON", "application/json;;;", "application/json, text/plain", "multipart/form-data", "multipart/form-data; boundary=" + strings.Repeat("b", 71),
		"multipart/form-data; boundary=\"\"", "application/x-www-form-urlencoded", "/", "🎉",
	} {
		types = append(types, mutation{fmt.Sprintf("a body of type %.60q", contentType), func(x *exchange, _ *rand.Rand) {
			x.contentType = contentType
			if x.op.RequestBody == nil {
				x.raw = []byte(`{"a":1}`)
			}
		}})
	}
	types = append(types, mutation{"a body of 1 MB where there is none", func(x *exchange, _ *rand.Rand) {
		if x.op.RequestBody == nil {
			x.contentType, x.raw = "application/json", bytes.Repeat([]byte(" "), megabyte)
		}
	}})
	return [][]mutation{queries, headers, types}
}

// bodies replace the whole body.
func bodies() [][]mutation {
	var whole, members []mutation
	for _, body := range []string{
		"", " ", "null", "true", "0", `""`, "[]", "[{}]", "{}", "{", "}", `{"a":1`, `{"a":1}{"b":2}`, `{"a":1} x`, "{a:1}", "{'a':1}", `{"a":1,}`, "// x\n{}", "\ufeff{}", "\x00", "\xff\xfe{\x00}\x00", "\x1f\x8b\x08\x00",
		`{"":""}`, `{"\u0000":1}`, `{"a":1,"a":2}`, `{"__proto__":{"role":"admin"},"constructor":1}`, nested("[", "]", 10_000), nested("[", "]", 9_999), nested("[", "]", 100_000), nested(`{"a":`, "}", 10_000), nested(`{"a":`, "}", 9_999),
		strings.Repeat("[", 100_000), `{"x":"` + strings.Repeat("x", megabyte-9) + `"}`, `{"x":"` + strings.Repeat("x", megabyte-8) + `"}`, strings.Repeat(" ", megabyte+1), "{" + strings.Repeat(`"a":1,`, 50_000) + `"b":1}`, "[" + strings.Repeat("{},", 100_000) + "{}]",
		"a=b&a=c", "%zz=%zz", "username=%00&password=%ff", "username=a&username=b&password=", strings.Repeat("a=&", 20_000), "<a/>", "--fuzz--\r\n",
	} {
		whole = append(whole, mutation{fmt.Sprintf("the body %.40q of %d bytes", body, len(body)), func(x *exchange, _ *rand.Rand) { x.raw = []byte(body) }})
	}
	for _, member := range []string{
		`"id":"` + missingID + `"`, `"agent_id":"` + missingID + `"`, `"role":"root"`, `"version":9`, `"created_at":"x"`, `"status":"completed"`, `"unknown":{"a":[1e400]}`, `"NAME":1`, `"Full_Name":null`, `"\u0000":1`, `"x":` + nested("[", "]", 9_000), `"x":"` + strings.Repeat("x", 500_000) + `"`,
	} {
		members = append(members, mutation{fmt.Sprintf("the member %.40q more", member), func(x *exchange, _ *rand.Rand) {
			var texts []string
			for _, name := range slices.Sorted(maps.Keys(x.fields)) {
				texts = append(texts, strconv.Quote(name)+":"+x.fields[name], strconv.Quote(name)+":"+x.fields[name]) // twice each
			}
			x.raw = []byte("{" + strings.Join(append(texts, member), ",") + "}")
		}})
	}
	return [][]mutation{whole, members}
}

// multiparts are broken forms with a file.
func multiparts() [][]mutation {
	var forms, files []mutation
	part := func(disposition, content string) string {
		return "--" + boundary + "\r\nContent-Disposition: " + disposition + "\r\n\r\n" + content + "\r\n"
	}
	const end = "--" + boundary + "--\r\n"
	audio := func(filename string) string { return part(`form-data; name="audio"; filename="`+filename+`"`, "OggS") }
	for name, body := range map[string]string{
		"no part":                    end,
		"no end":                     audio("x.ogg"),
		"cut in a part":              "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"x\"\r\n\r\nOggS",
		"cut in a header":            "--" + boundary + "\r\nContent-Dispo",
		"another boundary":           strings.ReplaceAll(audio("x.ogg")+end, boundary, "other"),
		"line feeds only":            strings.ReplaceAll(audio("x.ogg")+end, "\r", ""),
		"no name":                    part(`form-data; filename="x"`, "OggS") + end,
		"no disposition":             "--" + boundary + "\r\n\r\nOggS\r\n" + end,
		"disposition broken":         part(`form-data; name="audio; filename=x`, "OggS") + end,
		"an attachment":              part(`attachment; name="audio"; filename="x"`, "OggS") + end,
		"a header without a colon":   "--" + boundary + "\r\nContent-Disposition\r\n\r\nx\r\n" + end,
		"a header of 20 kB":          "--" + boundary + "\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\nx\r\n" + end,
		"a header of 1 MB":           "--" + boundary + "\r\nX: " + strings.Repeat("x", megabyte) + "\r\n\r\nx\r\n" + end,
		"20,000 headers":             "--" + boundary + "\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\nx\r\n" + end,
		"5,000 parts":                strings.Repeat(part(`form-data; name="x"`, "y"), 5_000) + audio("x.ogg") + end,
		"two files":                  audio("x.ogg") + audio("y.ogg") + end,
		"two values":                 part(`form-data; name="language"`, "en") + part(`form-data; name="language"`, "de") + audio("x.ogg") + end,
		"audio as a text":            part(`form-data; name="audio"`, "OggS") + end,
		"an empty file":              part(`form-data; name="audio"; filename="x"`, "") + end,
		"a field as a file":          part(`form-data; name="language"; filename="en"`, "en") + audio("x.ogg") + end,
		"a field of 1 MB":            part(`form-data; name="language"`, strings.Repeat("x", megabyte)) + audio("x.ogg") + end,
		"a field after the file":     audio("x.ogg") + part(`form-data; name="language"`, "\x00") + end,
		"a form in a form":           "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"\r\nContent-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n" + audio("x") + end + end,
		"base64 as an encoding":      "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"x\"\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!\r\n" + end,
		"quoted-printable":           "--" + boundary + "\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"x\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=ZZ=\r\n" + end,
		"a prologue and an epilogue": "hello\r\n" + audio("x.ogg") + end + "goodbye",
	} {
		forms = append(forms, mutation{"a form with " + name, func(x *exchange, _ *rand.Rand) { x.raw = []byte(body) }})
	}
	slices.SortFunc(forms, func(a, b mutation) int { return cmp.Compare(a.name, b.name) })
	for _, filename := range []string{
		"", "..", "../../etc/passwd", `C:\\x.ogg`, "a\x00b.ogg", "\xff\xfe.ogg", strings.Repeat("x", 5000) + ".ogg", strings.Repeat("🎉", 300), "\u202e.ogg", "x.ogg%00", "con", ".ogg", "\r", "a\tb", `\"; name=\"x`,
	} {
		files = append(files, mutation{fmt.Sprintf("a file named %.40q", filename), func(x *exchange, _ *rand.Rand) {
			var file bytes.Buffer
			fmt.Fprintf(&file, "--%s\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"%s\"\r\n\r\n", boundary, filename)
			content, _ := os.ReadFile(salesCallPath)
			x.raw = slices.Concat(file.Bytes(), content, []byte("\r\n"+end))
		}})
	}
	return [][]mutation{forms, files}
}
