package calls

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/meter"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
)

// warnBefore is how long before the end of a model operators are warned.
const warnBefore = 60 * 24 * time.Hour

// providers returns the clients of the AI providers, which are measured.
func (c Config) providers(clk clock.Clock, tel telemetry.Set) (*speech.Transcriber, *speech.Analyst, error) {
	measured, err := meter.NewProviders(tel)
	if err != nil {
		return nil, nil, err
	}
	transcription, chat := c.transcriber(), c.analyst()
	transcription.Observe = measured.Observer("transcription", transcription.Model)
	chat.Observe = measured.Observer("chat", chat.Model)
	analyst, err := speech.NewAnalyst(chat, clk, tel)
	return speech.NewTranscriber(transcription, clk, tel), analyst, err
}

// reportProviders shows in metrics and in /ready what operators have to do about the providers, and logs it at the start.
func (c Config) reportProviders(ctx context.Context, base *service.Base, transcription, chat func() bool) error {
	states := []meter.Provider{
		{Name: "transcription", OutOfQuota: transcription, Ends: c.transcriber().Ends()}, {Name: "chat", OutOfQuota: chat, Ends: c.analyst().Ends()},
	}
	models := []string{c.Transcribe.Model, c.Chat.Model}
	base.Warn(func() (warnings []string) {
		for i, p := range states {
			if p.OutOfQuota() {
				warnings = append(warnings, fmt.Sprintf("the account at the provider of %s is used up", models[i]))
			}
			if left := p.Ends.Sub(base.Clock.Now()); !p.Ends.IsZero() && left < warnBefore {
				warnings = append(warnings, fmt.Sprintf("the model %s ends on %s", models[i], p.Ends.Format(time.DateOnly)))
			}
		}
		return warnings
	})
	for _, w := range base.Warnings() {
		base.Tel.Log.WarnContext(ctx, "a provider needs attention", "warning", w)
	}
	return meter.Register(base.Tel, base.Clock, states...)
}
