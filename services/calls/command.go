package calls

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"text/tabwriter"
	"time"

	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return service.Commands(Contract(), c, c.examine, os.Stdout)
}

// examine checks what only this service depends on.
func (c Config) examine(ctx context.Context, r *doctor.Report) {
	c.ExamineFiles(ctx, r)
	c.ExamineProviders(ctx, r)
}

// ExamineFiles checks the bucket and ffmpeg.
func (c Config) ExamineFiles(ctx context.Context, r *doctor.Report) {
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
}

// ExamineProviders checks the AI providers. It asks them for nothing that costs money.
func (c Config) ExamineProviders(ctx context.Context, r *doctor.Report) {
	for part, p := range map[string]speech.Provider{"transcription": c.transcriber(), "chat": c.analyst()} {
		r.CheckHTTP(ctx, part, cmp.Or(p.BaseURL, "https://api.openai.com/v1"), 0)
		if ends := p.Ends(); !ends.IsZero() && ends.Sub(r.Clock.Now()) < warnBefore {
			r.Warn(part, "set another model", "%s ends on %s", p.Model, ends.Format(time.DateOnly))
		}
	}
}

// listNothing lists files that do not exist.
func (c Config) listNothing(ctx context.Context) error {
	b, err := c.openBucket(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	return b.List(ctx, "doctor/", time.Time{}, func([]string) error { return nil })
}

// Usage writes what was used of AI providers in the last days: in total, by agent and by model.
func Usage(ctx context.Context, cfg Config, tel telemetry.Set, days int, stdout io.Writer) error {
	base, err := service.OpenDatabase(ctx, Contract(), cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	report, err := store.Usages(base.DB).List(ctx, base.Clock.Now().UTC().AddDate(0, 0, 1-days))
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	line := func(of string, u call.Used) {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%.0f\t%d\t%d\t%.2f\n", of, u.Requests, u.Minutes, u.InputTokens, u.OutputTokens, u.CostUSD)
	}
	_, _ = fmt.Fprintln(table, "AI PROVIDERS\tREQUESTS\tMINUTES\tTOKENS IN\tOUT\tUSD")
	line(fmt.Sprintf("all, %d days", days), report.Total)
	for _, u := range report.ByModel {
		line("model "+u.Model, u.Used)
	}
	for _, u := range report.ByAgent {
		line("agent "+u.AgentID, u.Used)
	}
	return table.Flush()
}
