// Package page is keyset pagination: the paging part of a request, one page of a list, and the cursor of the next page. A cursor
// is the sort key of a page's last row, so every page costs the same. The package refuses to know any list's order or table.
package page

import (
	"encoding/base64"
	"encoding/json"

	"github.com/convoflow/convoflow/libs/fault"
)

// Request is the part of a list request that selects the page; embed it. The contract limits the fields and has the default of
// Limit.
type Request struct {
	Limit  int    `query:"limit"`
	Cursor string `query:"cursor"` // Of.Next of the previous page
	Skip   int    `query:"skip"`   // rows to skip after the cursor; for apps that page by number
}

// All requests up to 10,000 rows, for lists that are always short.
func All() Request { return Request{Limit: 10_000} }

// Of is one page of a list.
type Of[T any] struct {
	Items []T
	Next  string // cursor of the next page, empty on the last
}

// Parts returns the items and the cursor of the next page. libs/rpc uses it.
func (p Of[T]) Parts() (items any, next string) { return p.Items, p.Next }

// Show returns the page with view applied to each item. libs/rpc uses it.
func (p Of[T]) Show(view func(item any) any) any {
	return Map(p, func(item T) any { return view(item) })
}

// Map returns the page with f applied to each item.
func Map[T, R any](p Of[T], f func(T) R) Of[R] {
	out := Of[R]{Items: make([]R, len(p.Items)), Next: p.Next}
	for i, item := range p.Items {
		out.Items[i] = f(item)
	}
	return out
}

// Encode returns the cursor of a sort key. The parts of the key are texts, numbers and times.
func Encode(key ...any) string {
	raw, _ := json.Marshal(key) // these types always marshal
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Decode returns the parts of a cursor's key as texts. It fails with Invalid() unless the key has that many parts.
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

// Invalid returns the fault for a cursor that does not belong to the list.
func Invalid() error {
	return fault.Fields(fault.Field{Type: "value_error", Loc: []any{"query", "cursor"}, Msg: "Input should be a cursor from the header Link of the page before"})
}
