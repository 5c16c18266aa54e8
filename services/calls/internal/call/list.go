package call

import (
	"cmp"
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// Orders of a search.
const (
	// SortRelevance is the default of a search: of the newest matches, the best first.
	SortRelevance = "relevance"
	// SortNewest lists all matches, the newest first.
	SortNewest = "newest"
)

// ListRequest is the query of a list. Empty and nil fields do not filter.
type ListRequest struct {
	Status    string     `query:"status"`
	ClientID  string     `query:"client_id"`
	LeadID    string     `query:"lead_id"`
	AgentID   string     `query:"agent_id"`
	CallType  string     `query:"call_type"`
	Sentiment string     `query:"sentiment"`
	Outcome   string     `query:"outcome"`
	From      *time.Time `query:"from"` // created at this time or later
	To        *time.Time `query:"to"`   // created before this time
	Text      string     `query:"q"`    // words of the transcript, title or summary
	Sort      string     `query:"sort"` // of a search; every other list has the newest first
	page.Request
}

// Highlight is a part of a call in which a search has found its words.
type Highlight struct {
	Field   string `json:"field"`   // title, summary or transcript
	Snippet string `json:"snippet"` // HTML: escaped text with the words in <mark>
}

// List returns a page of the caller's calls, or of all calls for an admin, without transcripts. The calls of an agent that the caller
// may not see are none.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[Call], error) {
	caller, err := identity.From(ctx)
	if err != nil || req.AgentID != "" && !caller.MaySee(req.AgentID) {
		return page.Of[Call]{}, err
	}
	req.AgentID = cmp.Or(caller.Scope(), req.AgentID)
	return s.Calls.List(ctx, Filter{ListRequest: req})
}
