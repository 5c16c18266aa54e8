package web

import (
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// followUp adds what the apps read beside the status.
type followUp struct {
	followup.FollowUp
	Completed bool `json:"completed"`
}

func followUpView(x followup.FollowUp) any {
	return followUp{FollowUp: x, Completed: x.Status == followup.Completed}
}

func followUpList(p followup.Page) any {
	items := make([]any, len(p.Items))
	for i, x := range p.Items {
		items[i] = followUpView(x)
	}
	return rpc.List{Items: items, Next: p.Next}
}

func clientList(p client.Page) any { return rpc.List{Items: p.Items, Next: p.Next} }
