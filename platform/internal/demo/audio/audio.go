// Package audio owns the recording that the demo uploads and the tests listen to: a sales call of two speakers, in
// US English, made by scripts/make-demo-audio. It holds no other recordings, and nobody's real voice.
package audio

import (
	"bytes"
	_ "embed"
)

// SalesCallName is the file name of the recording. It is Ogg Opus, mono.
const SalesCallName = "sales-call.ogg"

//go:embed sales-call.ogg
var salesCall []byte

// SalesCall returns the recording, 39 s long. The caller may change the copy.
func SalesCall() []byte { return bytes.Clone(salesCall) }
