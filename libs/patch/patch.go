// Package patch represents a field of a partial update (PATCH), which can be omitted, null or a value, and the versions of an object
// that an update is meant for. It validates no values.
package patch

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/convoflow/convoflow/libs/fault"
)

// Field is one field of an update. The zero Field was omitted.
type Field[T any] struct {
	sent  bool
	value *T
}

// Null returns a field that was sent as null.
func Null[T any]() Field[T] { return Field[T]{sent: true} }

// Value returns a field that was sent with a value.
func Value[T any](v T) Field[T] { return Field[T]{sent: true, value: &v} }

// UnmarshalJSON implements json.Unmarshaler.
func (f *Field[T]) UnmarshalJSON(raw []byte) error {
	*f = Field[T]{sent: true}
	return json.Unmarshal(raw, &f.value)
}

// Apply stores the sent value or null. A field that was omitted changes nothing.
func (f Field[T]) Apply(to **T) {
	if f.sent {
		*to = f.value
	}
}

// Sent returns the field's value, which is nil for null, and whether the field was sent.
func (f Field[T]) Sent() (value *T, sent bool) { return f.value, f.sent }

type key struct{}

// Expect returns a context for an update that is meant for one of these versions of an object only, as the header If-Match says.
func Expect(ctx context.Context, versions []int64) context.Context {
	return context.WithValue(ctx, key{}, versions)
}

// Check fails with a Stale fault if ctx expects another version of the object. Call it under the object's lock.
func Check(ctx context.Context, version int64) error {
	expected, ok := ctx.Value(key{}).([]int64)
	if ok && !slices.Contains(expected, version) {
		return fault.New(fault.Stale, "precondition_failed", "Somebody has changed it since, load it again")
	}
	return nil
}
