package calls_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// format is what becomes of a file of testdata/recordings.
type format struct {
	contentType string
	extension   string
	seconds     float64 // measured
}

const tone = 4 // seconds of each file that is not cut

func TestEveryFormatHasItsOutcome(t *testing.T) {
	t.Parallel()
	a, made := start(t), recordings(t)
	accepted := map[string]format{
		"tagged.mp3": {"audio/mpeg", "mp3", tone}, "bare.mp3": {"audio/mpeg", "mp3", tone}, "mpga.mp2": {"audio/mpeg", "mp3", tone}, "program.mpeg": {"video/mpeg", "mpeg", tone},
		"index-last.m4a": {"audio/mp4", "m4a", tone}, "index-first.m4a": {"audio/mp4", "m4a", tone}, "fragments.mp4": {"audio/mp4", "m4a", tone},
		"pcm.wav": {"audio/wav", "wav", tone}, "pcm24.wav": {"audio/wav", "wav", tone}, "float.wav": {"audio/wav", "wav", tone}, "mulaw-8khz.wav": {"audio/wav", "wav", tone},
		"alaw-8khz.wav": {"audio/wav", "wav", tone}, "adpcm.wav": {"audio/wav", "wav", tone},
		"file.webm": {"audio/webm", "webm", tone}, "stream.webm": {"audio/webm", "webm", tone}, "opus.ogg": {"audio/ogg", "ogg", tone}, "vorbis.ogg": {"audio/ogg", "ogg", tone},
		"sound.flac": {"audio/flac", "flac", tone}, "six-channels.flac": {"audio/flac", "flac", tone}, "six-channels.m4a": {"audio/mp4", "m4a", tone},
		"sound.aac": {"audio/aac", "aac", tone}, "sound.3gp": {"audio/3gpp", "3gp", tone}, "narrow-8khz.amr": {"audio/amr", "amr", tone}, "wide.amr": {"audio/amr", "amr", tone},
		"video.mp4": {"audio/mp4", "m4a", tone}, "video.webm": {"audio/webm", "webm", tone}, "video.3gp": {"audio/3gpp", "3gp", tone},
		// What has arrived is transcribed.
		"cut-bare.mp3": {"audio/mpeg", "mp3", tone / 2}, "cut-pcm.wav": {"audio/wav", "wav", tone / 2}, "cut-opus.ogg": {"audio/ogg", "ogg", tone / 2},
		"cut-stream.webm": {"audio/webm", "webm", tone / 2}, "cut-sound.flac": {"audio/flac", "flac", 1.6}, "cut-sound.aac": {"audio/aac", "aac", tone / 2},
		"cut-index-first.m4a": {"audio/mp4", "m4a", tone / 2}, "cut-fragments.mp4": {"audio/mp4", "m4a", tone / 2},
	}
	unreadable := []string{"cut-index-last.m4a", "encrypted.m4a", "no-sound.mp4", "no-samples.wav"}
	refused := []string{"empty.mp3", "text.mp3", "picture.mp3", "quicktime.mp3"}
	silent := []string{"silent.wav"}
	files, err := filepath.Glob(filepath.Join(made, "*"))
	require.NoError(t, err)
	require.Len(t, files, len(accepted)+len(unreadable)+len(refused)+len(silent), "each file is in one of the lists")

	send := func(a *app, name string) string {
		a.T.Helper()
		body, contentType := form(a.T, "call.x", read(a.T, made, name), nil)
		return a.Send(a.Agent, http.MethodPost, "/calls/upload", body, "Content-Type", contentType).Is(http.StatusAccepted).Text("id")
	}
	for name, want := range accepted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := a.in(t)
			got := a.ended(send(a, name))
			require.Equal(t, []any{"completed", "ok", nil}, []any{got["status"], got["outcome"], got["error"]})
			require.Equal(t, []any{want.contentType, "call." + want.extension}, []any{got["content_type"], got["audio_filename"]})
			require.InDelta(t, want.seconds, pgtest.Column[float64](t, a.DB, `select duration_seconds from calls where id = $1`, got["id"])[0], 0.15)
		})
	}
	for _, name := range silent {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := a.in(t)
			got := a.ended(send(a, name))
			require.Equal(t, []any{"completed", "no_speech", nil}, []any{got["status"], got["outcome"], got["error"]})
		})
	}
	for _, name := range unreadable {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := a.in(t)
			got := a.ended(send(a, name))
			require.Equal(t, "failed", got["status"])
			problem := got["error"].(map[string]any)
			require.Equal(t, []any{"audio_unreadable", false}, []any{problem["code"], problem["retryable"]})
		})
	}
	for _, name := range refused {
		body, contentType := form(t, name, read(t, made, name), nil)
		require.Equal(t, []string{"audio"}, a.Send(a.Agent, http.MethodPost, "/calls/upload", body, "Content-Type", contentType).Wrong(), name)
	}
}

// recordings makes the files of testdata/recordings and returns their directory.
func recordings(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "testdata/recordings", dir).CombinedOutput()
	require.NoError(t, err, string(output))
	return dir
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return raw
}
