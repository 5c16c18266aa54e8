package leadimport

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func rowsOf(t testing.TB, file string) (rows []Row) {
	t.Helper()
	r := NewReader(iotest(file))
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		require.NoError(t, err)
		rows = append(rows, row)
	}
}

// iotest returns a reader that returns few bytes at a time: 7, and more of a large file.
func iotest(file string) io.Reader { return &dribble{strings.NewReader(file), max(7, len(file)/997)} }

type dribble struct {
	r    io.Reader
	size int
}

func (d *dribble) Read(p []byte) (int, error) { return d.r.Read(p[:min(len(p), d.size)]) }

func cellsOf(rows []Row) (cells [][]string) {
	for _, row := range rows {
		cells = append(cells, row.Cells)
	}
	return cells
}

func utf16Text(s string, order binary.AppendByteOrder) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, unit)
	}
	return string(out)
}

func TestReaderUnderstandsWhatSpreadsheetsWrite(t *testing.T) {
	t.Parallel()
	const table = "name,phone\nRené €,1\n"
	want := [][]string{{"name", "phone"}, {"René €", "1"}}
	for name, file := range map[string]string{
		"UTF-8":                    table,
		"UTF-8 with a mark":        "\ufeff" + table,
		"UTF-16 LE with a mark":    utf16Text("\ufeff"+table, binary.LittleEndian),
		"UTF-16 BE with a mark":    utf16Text("\ufeff"+table, binary.BigEndian),
		"UTF-16 LE without a mark": utf16Text(table, binary.LittleEndian),
		"UTF-16 BE without a mark": utf16Text(table, binary.BigEndian),
		"Windows-1252":             "name,phone\nRen\xe9 \x80,1\n",
		"semicolons":               strings.ReplaceAll(table, ",", ";"),
		"tabs":                     strings.ReplaceAll(table, ",", "\t"),
		"bars":                     strings.ReplaceAll(table, ",", "|"),
		"sep=":                     "sep=;\r\n" + strings.ReplaceAll(table, ",", ";"),
		"CRLF":                     strings.ReplaceAll(table, "\n", "\r\n"),
		"CR":                       strings.ReplaceAll(table, "\n", "\r"),
		"no line break at the end": strings.TrimSpace(table),
		"empty lines":              "\n\n" + strings.ReplaceAll(table, "\n", "\n\n"),
		"NUL":                      "na\x00me,phone\nRené €,1\n",
		"quotes":                   "\"name\",\"phone\"\n\"René €\",\"1\"\n",
	} {
		require.Equal(t, want, cellsOf(rowsOf(t, file)), name)
	}
}

func TestReaderQuotes(t *testing.T) {
	t.Parallel()
	rows := rowsOf(t, "a;b\n\"x;\"\"y\"\"\r\nz\";5\" screen\nlast;\n")
	require.Equal(t, []Row{
		{Line: 1, Cells: []string{"a", "b"}}, {Line: 2, Cells: []string{"x;\"y\"\r\nz", "5\" screen"}}, {Line: 4, Cells: []string{"last", ""}},
	}, rows)
	rows = rowsOf(t, "a,b\n\"never closed,1\nfine,2\n")
	require.Equal(t, []Row{{Line: 1, Cells: []string{"a", "b"}}, {Line: 2, Problem: "a quote is never closed"}, {Line: 3, Cells: []string{"fine", "2"}}}, rows)
	rows = rowsOf(t, "a,b\n"+strings.Repeat("x", 3*maxRecord)+"\nfine,2\n\""+strings.Repeat("y\n", maxRecord)+"\n")
	require.Equal(t, "the row is longer than 256 kB", rows[1].Problem)
	require.Equal(t, Row{Line: 3, Cells: []string{"fine", "2"}}, rows[2])
	require.Equal(t, "a quote is never closed", rows[3].Problem)
	require.Equal(t, Row{Line: 5, Cells: []string{"y"}}, rows[4])
	require.Len(t, rows, 4+maxRecord-1)
}

func TestReaderReadsWhatTheStandardWriterWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		comma := rapid.SampledFrom([]rune{',', ';', '\t', '|'}).Draw(t, "separator")
		width := rapid.IntRange(2, 6).Draw(t, "width")
		cell := rapid.StringMatching(`[a-zé€'"=;,|\t\n ]{0,12}`)
		table := [][]string{make([]string, width)}
		for i := range table[0] {
			table[0][i] = "h"
		}
		for range rapid.IntRange(0, 8).Draw(t, "rows") {
			row := make([]string, width)
			for i := range row {
				row[i] = cell.Draw(t, "cell")
			}
			table = append(table, row)
		}
		var file bytes.Buffer
		w := csv.NewWriter(&file)
		w.Comma, w.UseCRLF = comma, rapid.Bool().Draw(t, "CRLF")
		if w.UseCRLF { // the writer would write a line break in a cell as CRLF
			for _, row := range table {
				for i := range row {
					row[i] = strings.ReplaceAll(row[i], "\n", " ")
				}
			}
		}
		if err := w.WriteAll(table); err != nil {
			t.Fatal(err)
		}
		var got [][]string
		r := NewReader(iotest(file.String()))
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || row.Problem != "" {
				t.Fatal(err, row.Problem)
			}
			got = append(got, row.Cells)
		}
		require.Equal(t, table, got)
	})
}

func TestFormulasAreNeutralizedAndRestored(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]string{
		"=1+1": "'=1+1", "+919876543210": "'+919876543210", "-5": "'-5", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "'=x": "''=x", "x=1": "x=1", "": "", "'": "'", "'x": "'x",
	} {
		require.Equal(t, want, Neutralize(cell))
		require.Equal(t, cell, Plain(want))
	}
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.StringMatching(`[-'=+@\ta-z]{0,6}`).Draw(t, "cell")
		require.Equal(t, cell, Plain(Neutralize(cell)))
		require.False(t, strings.ContainsAny(Neutralize(cell)[:min(1, len(cell))], "=+-@\t\r"))
	})
}

func TestReaderNeedsLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := NewReader(io.LimitReader(endless{}, 32<<20))
	n, most := 0, uint64(0)
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if n++; n%100_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapAlloc)
		}
	}
	require.Greater(t, n, 1_000_000) // 24 bytes each
	require.Less(t, most, before.HeapAlloc+8<<20)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	const line = "Priya,+919876543210,\"x\"\n"
	n := 0
	for n+len(line) <= len(p) {
		n += copy(p[n:], line)
	}
	if n == 0 {
		n = copy(p, line[:len(p)])
	}
	return n, nil
}

func FuzzReader(f *testing.F) {
	for _, file := range []string{"a,b\n1,2\n", "\ufeffa;b\r\n\"1\n\"\";2\"", "\xff\xfea\x00,\x00", "sep=|\na|b", "\"", "\"a\n\"b\n", "\xe9,\x80\r\r\n", "a\tb\n=1\t'2"} {
		f.Add([]byte(file))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r := NewReader(bytes.NewReader(file))
		line := 0
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			require.NoError(t, err)
			require.Greater(t, row.Line, line, "lines grow")
			line = row.Line
			for _, cell := range row.Cells {
				require.True(t, utf8.ValidString(cell))
				require.NotContains(t, cell, "\x00")
				require.Equal(t, cell, Plain(Neutralize(cell)))
			}
		}
	})
}
