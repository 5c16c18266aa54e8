// Package setting owns what a team may change about its own work: stages and fields of leads, the mapping of inbound leads, working
// hours and time zone. Each value is checked by the rules of its key before it is stored. It refuses keys that it does not know.
package setting

import (
	"context"
	"slices"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Service implements the settings.
type Service struct{}

// Check implements lead.Rules.
func (s *Service) Check(_ context.Context, status lead.Status, _ lead.Extra) ([]fault.Field, error) {
	if status != "" && !slices.Contains(lead.Statuses(), status) {
		return []fault.Field{fault.BodyField("status", "enum", "Input should be a built-in status or a stage of the team")}, nil
	}
	return nil, nil
}
