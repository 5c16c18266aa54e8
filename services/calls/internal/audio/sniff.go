package audio

import (
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// demuxers are the accepted content types with ffmpeg's names of their containers.
func demuxers() map[string]string {
	return map[string]string{
		"audio/mpeg": "mp3", "audio/mp4": "mov", "audio/3gpp": "mov", "audio/webm": "matroska", "audio/ogg": "ogg",
		"audio/wav": "wav", "audio/flac": "flac", "audio/aac": "aac", "audio/amr": "amr", "video/mpeg": "mpeg",
	}
}

// Sniff detects the content type of a recording from the first bytes of its file. It returns false unless the format is
// accepted: mp3, mp4, m4a, mpeg, mpga, wav, webm, ogg and opus, flac, aac, amr, 3gp.
func Sniff(head []byte) (contentType string, ok bool) {
	name, _, _ := strings.Cut(mimetype.Detect(head).String(), ";")
	switch name {
	case "audio/x-m4a", "video/mp4", "video/x-m4v":
		name = "audio/mp4"
	case "video/3gpp", "video/3gpp2":
		name = "audio/3gpp"
	case "video/webm":
		name = "audio/webm"
	case "application/ogg":
		name = "audio/ogg"
	}
	_, ok = demuxers()[name]
	return name, ok
}
