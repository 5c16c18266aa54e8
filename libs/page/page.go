// Package page is the paging of lists: what a request says, what one page is, and the cursor between two pages. A cursor is
// the sort key of the last row, so that a page costs the same at any depth.
package page

import (
	"encoding/base64"
	"encoding/json"

	"github.com/convoflow/convoflow/libs/fault"
)

// Request is the part of a list request that chooses the page. Embed it. The contract limits the fields and sets Limit when it
// is left out.
type Request struct {
	Limit  int    `query:"limit"`
	Cursor string `query:"cursor"` // Of.Next of the page before
	Skip   int    `query:"skip"`   // rows after the cursor; for apps that count
}

// All is a page that holds everything, for lists that are short by nature.
func All() Request { return Request{Limit: 10_000} }

// Of is one page of a list.
type Of[T any] struct {
	Items []T
	Next  string // cursor of the next page, empty on the last
}

// Parts returns the items and the cursor of the next page, for libs/rpc.
func (p Of[T]) Parts() (items any, next string) { return p.Items, p.Next }

// Show returns the page with each item shown as something else, for libs/rpc.
func (p Of[T]) Show(view func(item any) any) any {
	return Map(p, func(item T) any { return view(item) })
}

// Map returns the page with each item made into another.
func Map[T, R any](p Of[T], f func(T) R) Of[R] {
	out := Of[R]{Items: make([]R, len(p.Items)), Next: p.Next}
	for i, item := range p.Items {
		out.Items[i] = f(item)
	}
	return out
}

// Encode makes a cursor of a sort key: texts, numbers and times.
func Encode(key ...any) string {
	raw, _ := json.Marshal(key) // such values always marshal
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Decode reads a cursor whose key has that many parts. Any other text is an Invalid fault.
func Decode(cursor string, parts int) ([]string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	var key []any
	if err != nil || json.Unmarshal(raw, &key) != nil || len(key) != parts {
		return nil, Invalid()
	}
	texts := make([]string, parts)
	for i, part := range key {
		switch part := part.(type) {
		case string:
			texts[i] = part
		default:
			text, _ := json.Marshal(part)
			texts[i] = string(text)
		}
	}
	return texts, nil
}

// Invalid is the fault of a cursor that was not made by the same list.
func Invalid() error {
	return fault.Fields(fault.Field{Type: "value_error", Loc: []any{"query", "cursor"}, Msg: "Input should be a cursor from the header Link of the page before"})
}
