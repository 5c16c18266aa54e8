package guard

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// valid are requests on one connection that are not ambiguous.
const valid = "GET / HTTP/1.1\r\nHost: a\r\n\r\n" +
	"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nab\r\nc" +
	"\r\n\nPOST /b HTTP/1.1\nHost: a\ncontent-length:\t3 \n\nabc" +
	"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"Content-Length: 1\"\r\nabc\r\n1A\r\nContent-Length: 1\r\n1234567\r\n0\r\nTrailer: x\r\n\r\n" +
	"POST /d HTTP/1.1\r\nHost: a\r\nTRANSFER-encoding: chunked\r\nX-Content-Length: 1\r\n\r\n0\r\n\r\n" +
	"POST /e HTTP/1.0\r\nContent-Length: 1\r\n\r\nx" +
	"POST /f HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 7\r\nTransfer-Encoding-X: chunked\r\nContent-Length: 0\r\n\r\n"

// ambiguous are requests that two HTTP implementations may end at different bytes.
var ambiguous = map[string]string{
	"both":                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"both, the other way":     "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:chunked\r\nX: y\r\nCONTENT-LENGTH:4\r\n\r\n0\r\n\r\n",
	"both, bare LF":           "POST / HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
	"both, on two lines":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
	"both, of length 0":       "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"both, HTTP/1.0":          "POST / HTTP/1.0\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunked HTTP/1.0":        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunked HTTP/1.0, long":  "POST /" + strings.Repeat("x", 300) + " HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a length that is padded": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:" + strings.Repeat(" ", 200) + "4\r\n\r\nabcd",
}

// follow feeds a stream in pieces of that size. It returns how much net/http gets.
func follow(stream string, size int) (accepted int, err error) {
	var f framing
	for at := 0; at < len(stream) && err == nil; at += size {
		var n int
		n, err = f.feed([]byte(stream[at:min(len(stream), at+size)]))
		accepted = at + n
	}
	return accepted, err
}

func TestRequestsWithOneLengthPass(t *testing.T) {
	t.Parallel()
	for size := 1; size <= len(valid); size++ {
		accepted, err := follow(valid, size)
		require.NoError(t, err, size)
		require.Equal(t, len(valid), accepted)
	}
}

func TestAmbiguousRequestsAreRefused(t *testing.T) {
	t.Parallel()
	for name, request := range ambiguous {
		head := max(strings.Index(request, "\r\n\r\n"), strings.Index(request, "\n\n"))
		for size := 1; size <= len(valid)+len(request); size++ {
			accepted, err := follow(valid+request, size)
			require.ErrorIs(t, err, errFraming, "%s, in pieces of %d", name, size)
			require.Less(t, accepted, len(valid)+head+2, "%s: net/http does not get the whole head", name)
		}
		accepted, err := follow(valid+request, 1<<20)
		require.ErrorIs(t, err, errFraming)
		require.Equal(t, len(valid), accepted, "%s: the requests before it are served", name)
	}
}

// Where net/http finds requests in a stream that framing accepts, framing finds the same ones.
func FuzzFraming(f *testing.F) {
	f.Add([]byte(valid))
	for _, request := range ambiguous {
		f.Add([]byte(valid + request))
		f.Add([]byte(request + valid))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var follower framing
		accepted, err := follower.feed(stream)
		require.LessOrEqual(t, accepted, len(stream))
		if err != nil {
			return
		}
		in := bufio.NewReader(bytes.NewReader(stream))
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			// net/http's server looks at the header after it has removed one of the two.
			require.False(t, len(req.TransferEncoding) > 0 && req.ContentLength >= 0)
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if in.Buffered() == 0 {
				if rest, _ := in.Peek(1); len(rest) == 0 && req.ProtoAtLeast(1, 1) {
					require.Equal(t, inHead, follower.state, "both are at the end of the last request")
				}
			}
		}
	})
}

func BenchmarkFraming(b *testing.B) {
	request := []byte("GET /calls/0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer " + strings.Repeat("x", 400) +
		"\r\nUser-Agent: app/1.2\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\nIf-None-Match: W/\"7-1.2.3\"\r\n\r\n")
	var f framing
	for b.Loop() {
		if _, err := f.feed(request); err != nil {
			b.Fatal(err)
		}
	}
}
