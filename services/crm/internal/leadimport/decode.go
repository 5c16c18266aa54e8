package leadimport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// decoder reads a file as UTF-8, whatever its encoding is: UTF-8 or UTF-16 with a byte-order mark, UTF-16 without one, and otherwise
// UTF-8 in which every byte that is not UTF-8 is one of Windows-1252. So a file with both is read as it was meant.
type decoder struct {
	src   *bufio.Reader
	order binary.ByteOrder // of UTF-16; nil for bytes
	begun bool
	out   []byte // decoded and not read yet
}

func newDecoder(r io.Reader) *decoder { return &decoder{src: bufio.NewReaderSize(r, 64<<10)} }

// Read implements io.Reader.
func (d *decoder) Read(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		if err := d.detect(); err != nil {
			return 0, err
		}
	}
	for len(d.out) == 0 {
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// detect chooses the encoding by the first bytes.
func (d *decoder) detect() error {
	head, err := d.src.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	skip := 0
	switch {
	case len(head) >= 3 && string(head[:3]) == "\xef\xbb\xbf":
		skip = 3
	case len(head) >= 2 && head[0] == 0xff && head[1] == 0xfe:
		d.order, skip = binary.LittleEndian, 2
	case len(head) >= 2 && head[0] == 0xfe && head[1] == 0xff:
		d.order, skip = binary.BigEndian, 2
	case len(head) == 4 && head[0] != 0 && head[1] == 0 && head[3] == 0:
		d.order = binary.LittleEndian
	case len(head) == 4 && head[0] == 0 && head[1] != 0 && head[2] == 0:
		d.order = binary.BigEndian
	}
	_, err = d.src.Discard(skip)
	return err
}

// fill decodes the next characters.
func (d *decoder) fill() error {
	const most = 16 << 10
	d.out = d.out[:0]
	for len(d.out) < most {
		r, err := d.next()
		if err != nil {
			if len(d.out) > 0 { // the error comes with the next call
				return nil
			}
			return err
		}
		if r != 0 { // PostgreSQL rejects it
			d.out = utf8.AppendRune(d.out, r)
		}
		if len(d.out) > 0 && d.src.Buffered() == 0 {
			return nil
		}
	}
	return nil
}

func (d *decoder) next() (rune, error) {
	if d.order != nil {
		return d.next16()
	}
	r, size, err := d.src.ReadRune()
	if err != nil || r != utf8.RuneError || size > 1 {
		return r, err
	}
	if err := d.src.UnreadRune(); err != nil {
		return 0, err
	}
	b, err := d.src.ReadByte()
	return fromWindows1252(b), err
}

func (d *decoder) next16() (rune, error) {
	unit, err := d.unit()
	if err != nil || !utf16.IsSurrogate(rune(unit)) {
		return rune(unit), err
	}
	low, err := d.unit()
	if errors.Is(err, io.EOF) {
		return utf8.RuneError, nil
	}
	return utf16.DecodeRune(rune(unit), rune(low)), err
}

func (d *decoder) unit() (uint16, error) {
	var two [2]byte
	_, err := io.ReadFull(d.src, two[:])
	if errors.Is(err, io.ErrUnexpectedEOF) { // half a character at the end of the file
		return utf8.RuneError, nil
	}
	return d.order.Uint16(two[:]), err
}

// windows1252 has the characters of the bytes 0x80 to 0x9f; the others are those of Unicode.
const windows1252 = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"

func fromWindows1252(b byte) rune {
	if b >= 0x80 && b <= 0x9f {
		return []rune(windows1252)[b-0x80]
	}
	return rune(b)
}
