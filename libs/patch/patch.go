// Package patch represents a field of a partial update (PATCH), which can be omitted, null or a value. It validates nothing.
package patch

import "encoding/json"

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
