package calls

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"time"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return service.Commands(contract.Of(name), c, c.Examine, os.Stdout, store.Migrations())
}

// Examine checks what only this service depends on: the bucket, ffmpeg and the AI providers. It asks the providers for nothing that
// costs money.
func (c Config) Examine(ctx context.Context, r *doctor.Report) {
	if err := c.listNothing(ctx); err != nil {
		r.Fail("recordings", "check STORAGE_URL and the credentials of the bucket", "%v", err)
	} else {
		r.OK("recordings", "the bucket answers")
	}
	for _, program := range []string{"ffmpeg", "ffprobe"} {
		if path, err := exec.LookPath(program); err != nil {
			r.Fail(program, "install ffmpeg", "it is not in PATH, so no recording can be read")
		} else {
			r.OK(program, "%s", path)
		}
	}
	for part, p := range map[string]speech.Provider{"transcription": c.transcriber(), "chat": c.analyst()} {
		r.CheckHTTP(ctx, part, cmp.Or(p.BaseURL, "https://api.openai.com/v1"), 0)
		if ends := p.Ends(); !ends.IsZero() && ends.Sub((clock.System{}).Now()) < warnBefore {
			r.Warn(part, "set another model", "%s ends on %s", p.Model, ends.Format(time.DateOnly))
		}
	}
}

// listNothing lists files that do not exist.
func (c Config) listNothing(ctx context.Context) error {
	b, err := bucket.Open(ctx, c.StorageURL, c.MaxAudioSizeMB<<20, audio.Sniff)
	if err != nil {
		return err
	}
	defer b.Close()
	return b.List(ctx, "doctor/", time.Time{}, func([]string) error { return nil })
}
