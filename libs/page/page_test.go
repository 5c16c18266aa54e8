package page_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
)

func TestACursorIsDecodedAsEncoded(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 9, 0, 0, 123456000, time.UTC)
	cursor := page.Encode(at, "an id", int64(42), nil)
	require.Regexp(t, `^[A-Za-z0-9_-]+$`, cursor, "it needs no escaping")
	key, err := page.Decode(cursor, 4)
	require.NoError(t, err)
	require.Equal(t, []string{"2026-11-24T09:00:00.123456Z", "an id", "42", "null"}, key)
}

func TestShowMapsEachItem(t *testing.T) {
	t.Parallel()
	p := page.Of[int]{Items: []int{1, 2}, Next: "next"}
	shown := p.Show(func(item any) any { return item.(int) * 10 }).(page.Of[any])
	require.Equal(t, page.Of[any]{Items: []any{10, 20}, Next: "next"}, shown)
	items, next := p.Parts()
	require.Equal(t, []int{1, 2}, items)
	require.Equal(t, "next", next)
}

func FuzzDecode(f *testing.F) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, seed := range []string{"", "x", "====", encode(""), encode("[]"), encode("{}"), encode(`["a"]`), encode(`["a","b"]`), encode(`["a","b","c"]`), encode(`["a",{"b":1}]`), encode(`["a",1e999]`), encode(`["a","b"]`) + "="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		key, err := page.Decode(cursor, 2)
		if err == nil {
			require.Len(t, key, 2)
			return
		}
		require.True(t, fault.Is(err, fault.Invalid))
		require.Equal(t, []any{"query", "cursor"}, fault.Of(err).Fields[0].Loc)
	})
}
