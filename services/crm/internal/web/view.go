package web

import "github.com/convoflow/convoflow/services/crm/internal/followup"

// followUp adds a field that the apps read besides the status.
type followUp struct {
	followup.FollowUp
	Completed bool `json:"completed"`
}

func viewFollowUp(x followup.FollowUp) any {
	return followUp{FollowUp: x, Completed: x.Status == followup.Completed}
}
