package agent

import "context"

// maxRevocations is the maximum number of entries of one page. Those who read it accept no more.
const maxRevocations = 5000

// Revocation is the state of a session or an agent: whether its access tokens are refused.
type Revocation struct {
	ID      string
	Version int64 // of the agent; 0 for a session
	Revoked bool
}

// RevocationPage is a part of the list of revocations.
type RevocationPage struct {
	Nonce   string // of the request
	Entries []Revocation
	Next    string // the position of the next page, or of the next list
	More    bool   // whether the list has another page
}

// Revocations lists revocations, as long as an access token may exist that they refuse.
type Revocations interface {
	// List returns at most limit entries since a position, and misses none that is committed later. The empty position is the
	// beginning. An entry may be listed again.
	List(ctx context.Context, since string, limit int) (RevocationPage, error)
}

// RevocationsRequest requests a page.
type RevocationsRequest struct {
	Since string `query:"since"`
	Nonce string `query:"nonce"`
}

// ListRevocations returns the sessions that have ended and the agents that became inactive, or active again, since a position: for
// services that cannot read them from the topic.
func (s *Service) ListRevocations(ctx context.Context, r RevocationsRequest) (RevocationPage, error) {
	page, err := s.Revocations.List(ctx, r.Since, maxRevocations)
	page.Nonce = r.Nonce
	return page, err
}
