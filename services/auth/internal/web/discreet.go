package web

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/convoflow/convoflow/libs/rpc"
)

// discreet keeps the answers of a keeper without the password in them: who asks again gets the agent that was created, and
// what nobody should read twice lies nowhere.
type discreet struct{ rpc.Keeper }

func (d discreet) Once(ctx context.Context, op, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	var full json.RawMessage
	kept, err := d.Keeper.Once(ctx, op, key, fingerprint, func(ctx context.Context) (json.RawMessage, error) {
		var err error
		if full, err = do(ctx); err != nil {
			return nil, err
		}
		var answer createdAgent
		if err := json.Unmarshal(full, &answer); err != nil {
			return nil, fmt.Errorf("read the answer without its password: %w", err)
		}
		return json.Marshal(answer.agentView)
	})
	if err == nil && full != nil {
		return full, nil
	}
	return kept, err
}
