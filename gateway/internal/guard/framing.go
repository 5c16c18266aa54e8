package guard

import (
	"bytes"
	"errors"
	"strconv"
)

// errFraming is the error of reading a request whose end is ambiguous.
var errFraming = errors.New("the request has an ambiguous length")

// framing follows the requests on a connection to find those whose body two HTTP implementations may end at different bytes, which
// is how requests are smuggled past a proxy: with Content-Length and Transfer-Encoding (RFC 9112 section 6.3), and with
// Transfer-Encoding in HTTP/1.0 (section 6.1). net/http accepts both and hides them from handlers. Everything else that is wrong
// with a request is left to net/http; framing only refuses what it cannot follow.
type framing struct {
	state framingState
	left  uint64 // bytes of the body or chunk that are to come

	line   [maxFramingLine]byte // beginning of the current line
	length int                  // of the current line, may be more than fits
	tail   [16]byte             // last bytes of the connection, without bodies and chunks: the version in a long request line

	// Of the current head:
	hasLine, oldVersion, chunked, hasLength bool
	contentLength                           uint64
}

type framingState int

const (
	inHead     framingState = iota
	inBody                  // of Content-Length bytes
	inSize                  // of a chunk
	inChunk                 // data
	afterChunk              // the end of the line after the data
	inTrailer
)

// maxFramingLine is how much of a line is looked at: a field name and a number. A Content-Length or a chunk size that is longer is
// refused.
const maxFramingLine = 128

// isWaiting reports whether a part of a head has arrived.
func (f *framing) isWaiting() bool { return f.state == inHead && (f.hasLine || f.length > 0) }

// feed follows the next bytes of a connection. After an error, accepted is how many of them net/http may still see: nothing of an
// ambiguous head that is in b, and a body up to the line that is wrong, so that it finds the error itself.
func (f *framing) feed(b []byte) (accepted int, err error) {
	head := 0 // where the current head begins in b
	for at := 0; at < len(b); {
		if f.state == inBody || f.state == inChunk {
			n := min(f.left, uint64(len(b)-at))
			at += int(n)
			if f.left -= n; f.left == 0 {
				f.next()
				head = at
			}
			continue
		}
		end := bytes.IndexByte(b[at:], '\n')
		piece := b[at:]
		if end >= 0 {
			piece = b[at : at+end]
		}
		if f.length < len(f.line) {
			copy(f.line[f.length:], piece)
		}
		f.length += len(piece)
		n := min(len(piece), len(f.tail))
		copy(f.tail[:], f.tail[n:])
		copy(f.tail[len(f.tail)-n:], piece[len(piece)-n:])
		if end < 0 {
			break
		}
		at += end + 1
		state := f.state
		if err := f.endLine(); err != nil {
			if state != inHead {
				head = at
			}
			return head, err
		}
		if f.state == inHead && !f.hasLine {
			head = at
		}
	}
	return len(b), nil
}

// next begins what follows a body or a chunk.
func (f *framing) next() {
	if f.state == inChunk {
		f.state = afterChunk
		return
	}
	f.beginHead()
}

func (f *framing) beginHead() { *f = framing{} }

// endLine handles a complete line.
func (f *framing) endLine() error {
	isCut := f.length > len(f.line)
	line := bytes.TrimSuffix(f.line[:min(f.length, len(f.line))], []byte("\r"))
	f.length = 0
	switch f.state {
	case inHead:
		return f.endHeadLine(line, isCut)
	case inSize:
		size, err := chunkSize(line)
		if err != nil || isCut && !bytes.ContainsRune(line, ';') {
			return errFraming
		}
		f.left, f.state = size, inChunk
		if size == 0 {
			f.state = inTrailer
		}
	case afterChunk:
		if len(line) > 0 {
			return errFraming
		}
		f.state = inSize
	case inTrailer:
		if len(line) == 0 {
			f.beginHead()
		}
	case inBody, inChunk: // have no lines
	}
	return nil
}

func (f *framing) endHeadLine(line []byte, isCut bool) error {
	switch {
	case len(line) == 0 && !f.hasLine: // net/http ignores empty lines between requests
		return nil
	case len(line) == 0:
		f.endHead()
		return nil
	case !f.hasLine:
		f.hasLine = true
		f.oldVersion = bytes.HasSuffix(bytes.TrimSuffix(f.tail[:], []byte("\r")), []byte(" HTTP/1.0"))
		return nil
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		f.chunked = true
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 63)
		if err != nil || isCut {
			return errFraming
		}
		f.hasLength, f.contentLength = true, n
	}
	if f.chunked && (f.hasLength || f.oldVersion) {
		return errFraming
	}
	return nil
}

func (f *framing) endHead() {
	chunked, length := f.chunked, f.contentLength
	f.beginHead()
	switch {
	case chunked:
		f.state = inSize
	case length > 0:
		f.state, f.left = inBody, length
	}
}

// chunkSize parses the line before a chunk, without its extensions.
func chunkSize(line []byte) (uint64, error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	return strconv.ParseUint(string(bytes.TrimRight(digits, " \t")), 16, 63)
}
