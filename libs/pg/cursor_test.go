package pg_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg"
)

func TestACursorComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Date(2026, 11, 24, 9, 0, 0, 123456000, time.UTC), time.Date(2026, 11, 24, 9, 0, 0, 0, time.FixedZone("IST", 19800)), {}} {
		want := pg.Cursor{At: at, ID: event.NewID()}
		text := want.Encode()
		require.Regexp(t, `^[A-Za-z0-9_-]+$`, text, "it needs no escaping")
		got, err := pg.DecodeCursor(text)
		require.NoError(t, err)
		require.Equal(t, want.ID, got.ID)
		require.True(t, want.At.Equal(got.At))
		require.Equal(t, time.UTC, got.At.Location())
	}
}

func FuzzDecodeCursor(f *testing.F) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	id := "01935c5e-0000-7000-8000-000000000001"
	for _, seed := range []string{"", "x", "====", encode(""), encode("2026-11-24T09:00:00Z"), encode("2026-11-24T09:00:00Z "), encode(" " + id), encode("now " + id), encode("2026-11-24T09:00:00Z '; drop"), encode("2026-11-24T09:00:00Z urn:uuid:" + id), encode("2026-11-24T09:00:00Z " + id + " x"), encode("2026-11-24T09:00:00Z "+id) + "="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := pg.DecodeCursor(text)
		if err == nil {
			require.True(t, event.ValidID(got.ID))
			return
		}
		require.Zero(t, got)
		require.True(t, fault.Is(err, fault.Invalid))
		require.Equal(t, []any{"query", "cursor"}, fault.Of(err).Fields[0].Loc)
	})
}
