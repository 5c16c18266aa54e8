// Package patch is a field of a partial update (PATCH), which can be left out, null or a value.
package patch

import "encoding/json"

// Field is one field of an update. The zero Field was left out.
type Field[T any] struct {
	sent  bool
	value *T
}

// Null is a field that was sent as null.
func Null[T any]() Field[T] { return Field[T]{sent: true} }

// Value is a field that was sent with a value.
func Value[T any](v T) Field[T] { return Field[T]{sent: true, value: &v} }

// UnmarshalJSON implements json.Unmarshaler.
func (f *Field[T]) UnmarshalJSON(raw []byte) error {
	*f = Field[T]{sent: true}
	return json.Unmarshal(raw, &f.value)
}

// Apply writes what was sent; a field that was left out changes nothing.
func (f Field[T]) Apply(to **T) {
	if f.sent {
		*to = f.value
	}
}

// Sent reports whether the field was sent, and its value, which is nil for null.
func (f Field[T]) Sent() (value *T, sent bool) { return f.value, f.sent }
