package crm

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// classifyTimeout is for one answer of a language model, and shorter than the timeout of the operation.
const classifyTimeout = 50 * time.Second

// fetchCall reads a call whose event has not arrived yet.
func (c Config) fetchCall(tel telemetry.Set) copies.Fetch[followup.Call] {
	return peer.Fetch[followup.Call](peer.New("calls", c.CallsURL, tel), "/calls")
}

// fetchAgent reads an agent whose event has not arrived yet.
func (c Config) fetchAgent(tel telemetry.Set) copies.Fetch[agent.Agent] {
	return peer.Fetch[agent.Agent](peer.New("auth", c.Access.AuthURL, tel), "/agents")
}

// classifier asks calls, which has the AI provider.
func (c Config) classifier(tel telemetry.Set) lead.Classifier {
	calls := peer.NewSlow("calls' AI", c.CallsURL, classifyTimeout, tel)
	return func(ctx context.Context, summary string) (v lead.Verdict, err error) {
		err = calls.Ask(ctx, "/internal/intents", map[string]string{"text": summary}, &v)
		if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Forbidden) { // another version of calls
			err = fault.Wrap(err, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again")
		}
		return v, err
	}
}
