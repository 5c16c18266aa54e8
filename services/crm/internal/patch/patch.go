// Package patch tells a JSON member that was left out from one that is null, which is what PATCH is about.
package patch

import "encoding/json"

// Text is an optional text of a PATCH body. Its zero value was not sent.
type Text struct {
	sent  bool
	value *string
}

// UnmarshalJSON is only called for a member that was sent.
func (t *Text) UnmarshalJSON(raw []byte) error {
	t.sent = true
	return json.Unmarshal(raw, &t.value)
}

// Over is the text after the patch: what was sent (nil for null), else what it was.
func (t Text) Over(old *string) *string {
	if t.sent {
		return t.value
	}
	return old
}
