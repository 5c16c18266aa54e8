package table

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
)

// Where is a conjunction of conditions. The zero Where matches every row.
type Where struct {
	all  []string
	args []any
}

// And adds a condition. Each ? in it stands for one of the values, in order.
func (w *Where) And(condition string, values ...any) {
	for _, value := range values {
		condition = strings.Replace(condition, "?", w.Bind(value), 1)
	}
	w.all = append(w.all, "("+condition+")")
}

// If adds a condition if present is true, such as for an optional filter.
func (w *Where) If(present bool, condition string, values ...any) {
	if present {
		w.And(condition, values...)
	}
}

// Bind adds a value and returns its placeholder, for a part of the statement that is no condition.
func (w *Where) Bind(value any) string {
	w.args = append(w.args, value)
	return "$" + strconv.Itoa(len(w.args))
}

// Args returns the values of the placeholders, for a statement that is written by hand.
func (w Where) Args() []any { return w.args }

// Around returns a Where without conditions whose values come after those of w, for a statement that has w in a subquery of its from
// clause.
func (w Where) Around() Where { return Where{args: slices.Clone(w.args)} }

// String returns the where clause with a leading space; it is empty without conditions.
func (w Where) String() string {
	if len(w.all) == 0 {
		return ""
	}
	return " where " + strings.Join(w.all, " and ")
}

// Like returns the LIKE or ILIKE pattern that matches values containing text.
func Like(text string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text) + "%"
}

// String returns the list of an order by clause.
func (o Order[T]) String() string {
	names := make([]string, len(o.Keys))
	for i, k := range o.Keys {
		names[i] = k.Name
		if o.Desc {
			names[i] += " desc"
		}
	}
	return strings.Join(names, ", ")
}

func (o Order[T]) cursor(row T) string {
	key := make([]any, len(o.Keys))
	for i, k := range o.Keys {
		key[i] = k.Of(row)
	}
	return page.Encode(key...)
}

// after adds the condition that a row comes after the cursor.
func (o Order[T]) after(w *Where, cursor string) error {
	key, err := page.Decode(cursor, len(o.Keys))
	if err != nil {
		return err
	}
	var names, places []string
	var values []any
	for i, k := range o.Keys {
		if !valid(key[i], k.Type) {
			return page.Invalid()
		}
		place := "?::text::" + k.Type
		if k.As != "" {
			place = strings.Replace(k.As, "?", place, 1)
		}
		names, places, values = append(names, k.Name), append(places, place), append(values, key[i])
	}
	compare := ">"
	if o.Desc {
		compare = "<"
	}
	w.And(fmt.Sprintf("(%s) %s (%s)", strings.Join(names, ", "), compare, strings.Join(places, ", ")), values...)
	return nil
}

// Infinity is the key of a row without a time, in an order in which those are the last: later than every time.
const Infinity = "infinity"

// valid reports whether PostgreSQL accepts the text as a value of the type.
func valid(text, typ string) bool {
	switch typ {
	case "uuid":
		return event.ValidID(text)
	case "timestamptz":
		if text == Infinity {
			return true
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		return err == nil && t.Year() >= 1 && t.Year() <= 9999
	case "real":
		_, err := strconv.ParseFloat(text, 32)
		return err == nil
	case "bigint":
		_, err := strconv.ParseInt(text, 10, 64)
		return err == nil
	default:
		return !strings.ContainsRune(text, 0)
	}
}

// Newest orders by creation time, latest first: the order of most lists.
func Newest[T any](createdAt func(T) time.Time, id func(T) string) Order[T] {
	return Order[T]{Desc: true, Keys: []Key[T]{
		{Name: "created_at", Type: "timestamptz", Of: func(row T) any { return createdAt(row) }},
		{Name: "id", Type: "uuid", Of: func(row T) any { return id(row) }},
	}}
}
