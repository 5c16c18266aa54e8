package leadimport

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

const (
	// maxRecord is the size of the largest row in bytes, as UTF-8.
	maxRecord = 256 << 10
	// maxColumns is the number of columns of a file.
	maxColumns = 200
)

// Row is one row of a file.
type Row struct {
	Line    int // of its beginning, from 1
	Cells   []string
	Problem string // why the row cannot be read; empty if it can
}

// Reader reads the rows of a CSV file (RFC 4180), one at a time and in bounded memory. It finds out the encoding and the separator:
// comma, semicolon, tab or |. A cell in quotes may have line breaks. A quote that is never closed costs one line, not the rest of the
// file.
type Reader struct {
	src       *bufio.Reader
	line      int // of the next byte
	separator byte
}

// NewReader returns a reader of a file.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: bufio.NewReaderSize(newDecoder(r), 2*maxRecord), line: 1}
}

// Next returns the next row. It leaves out empty lines, and fails with io.EOF at the end, and otherwise with the error of reading.
func (r *Reader) Next() (Row, error) {
	for {
		if row, ok := r.nextBuffered(); ok {
			return row, nil
		}
		data, err := r.src.Peek(maxRecord)
		whole := errors.Is(err, io.EOF)
		if err != nil && !whole {
			return Row{}, err
		}
		if len(data) == 0 {
			return Row{}, io.EOF
		}
		if r.separator == 0 {
			skip := r.detect(data)
			if skip > 0 {
				r.consume(data[:skip])
				continue
			}
		}
		row, n, open := r.parse(data, whole)
		row.Line = r.line
		switch {
		case open && n == 0:
			row.Problem = "a quote is never closed"
			n = lineEnd(data)
		case n == 0:
			row.Problem = "the row is longer than 256 kB"
			n = lineEnd(data)
		}
		r.consume(data[:n])
		if row.Problem != "" {
			row.Cells = nil
			return row, r.skipLine(data[:n], whole)
		}
		if isEmpty(row) {
			continue
		}
		return row, nil
	}
}

// nextBuffered returns the next row if the buffer has all of it and what follows. It only saves time: to fill the buffer for each row
// would move all that is in it.
func (r *Reader) nextBuffered() (Row, bool) {
	data, err := r.src.Peek(min(r.src.Buffered(), maxRecord))
	if err != nil || r.separator == 0 {
		return Row{}, false
	}
	row, n, _ := r.parse(data, false)
	if n == 0 || n == len(data) || isEmpty(row) {
		return Row{}, false
	}
	row.Line = r.line
	r.consume(data[:n])
	return row, true
}

func isEmpty(row Row) bool { return len(row.Cells) == 1 && row.Cells[0] == "" }

// skipLine discards the rest of a line that does not end in what was read of it.
func (r *Reader) skipLine(read []byte, whole bool) error {
	for !whole && read[len(read)-1] != '\n' && read[len(read)-1] != '\r' {
		data, err := r.src.Peek(maxRecord)
		if whole = errors.Is(err, io.EOF); err != nil && !whole {
			return err
		}
		if len(data) == 0 {
			return nil
		}
		read = data[:lineEnd(data)]
		r.consume(read)
		read = append([]byte(nil), read[len(read)-1])
	}
	return nil
}

// consume advances beyond bytes that were peeked.
func (r *Reader) consume(data []byte) {
	for i, b := range data {
		if b == '\n' || b == '\r' && (i+1 == len(data) || data[i+1] != '\n') {
			r.line++
		}
	}
	_, _ = r.src.Discard(len(data)) // they are in the buffer
}

// lineEnd returns the length of the first line with its end.
func lineEnd(data []byte) int {
	for i, b := range data {
		if b == '\n' {
			return i + 1
		}
		if b == '\r' {
			if i+1 < len(data) && data[i+1] == '\n' {
				return i + 2
			}
			return i + 1
		}
	}
	return len(data)
}

// detect sets the separator: that of a first line "sep=;", which Excel writes and which is skipped, or else the one that the first
// line has most of outside of quotes.
func (r *Reader) detect(data []byte) (skip int) {
	first := string(data[:lineEnd(data)])
	if line := strings.TrimRight(first, "\r\n"); len(line) == 5 && strings.EqualFold(line[:4], "sep=") {
		r.separator = line[4]
		return len(first)
	}
	counts, quoted := map[byte]int{}, false
	for i := range len(data) {
		b := data[i]
		if b == '"' {
			quoted = !quoted
		}
		if !quoted && (b == '\n' || b == '\r') {
			break
		}
		if !quoted {
			counts[b]++
		}
	}
	r.separator = ','
	for _, candidate := range []byte{';', '\t', '|'} {
		if counts[candidate] > counts[r.separator] {
			r.separator = candidate
		}
	}
	return 0
}

// parse reads one row at the beginning of data. n is 0 if the row does not end in data; then open says whether it ends in quotes.
// whole reports whether data goes to the end of the file.
func (r *Reader) parse(data []byte, whole bool) (row Row, n int, open bool) {
	var cell strings.Builder
	quoted, atStart := false, true
	end := func() {
		row.Cells = append(row.Cells, cell.String())
		cell.Reset()
		atStart = true
	}
	for i := 0; i < len(data); i++ {
		b := data[i]
		switch {
		case quoted && b == '"' && i+1 < len(data) && data[i+1] == '"':
			cell.WriteByte('"')
			i++
		case quoted && b == '"':
			quoted = false
		case quoted:
			cell.WriteByte(b)
		case b == '"' && atStart:
			quoted, atStart = true, false
		case b == r.separator:
			end()
		case b == '\n' || b == '\r':
			end()
			return row, i + lineEnd(data[i:]), false
		default: // also a quote within a cell
			cell.WriteByte(b)
			atStart = false
		}
	}
	if !whole || quoted {
		return Row{}, 0, quoted
	}
	end()
	return row, len(data), false
}

// isFormula reports whether a spreadsheet would take a cell for a formula, or would after apostrophes at its beginning are removed.
func isFormula(cell string) bool {
	rest := strings.TrimLeft(cell, "'")
	return rest != "" && strings.ContainsRune("=+-@\t\r", rune(rest[0]))
}

// Neutralize returns a cell that no spreadsheet takes for a formula: one that begins with =, +, -, @, a tab or a carriage return
// gets an apostrophe before it, which Plain removes.
func Neutralize(cell string) string {
	if isFormula(cell) {
		return "'" + cell
	}
	return cell
}

// Plain returns the cell that Neutralize has changed.
func Plain(cell string) string {
	if strings.HasPrefix(cell, "'") && isFormula(cell) {
		return cell[1:]
	}
	return cell
}
