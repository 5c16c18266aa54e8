package pg

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/fault"
)

// Cursor is where a page of a list ended: the sort key of its last row. Pages by cursor cost the same at any depth.
type Cursor struct {
	At time.Time
	ID string
}

// Encode makes the opaque text that clients send back.
func (c Cursor) Encode() string {
	return base64.RawURLEncoding.EncodeToString([]byte(c.At.UTC().Format(time.RFC3339Nano) + " " + c.ID))
}

// DecodeCursor reads it. Any other text is an Invalid fault.
func DecodeCursor(text string) (Cursor, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	at, id, ok := strings.Cut(string(raw), " ")
	t, timeErr := time.Parse(time.RFC3339Nano, at)
	if err != nil || !ok || timeErr != nil || uuid.Validate(id) != nil || len(id) != 36 {
		return Cursor{}, fault.Fields(fault.Field{Type: "value_error", Loc: []any{"query", "cursor"}, Msg: "Input should be a cursor from the header Link of the page before"})
	}
	return Cursor{At: t, ID: id}, nil
}
