package events

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events about the erasure of a person's data. The service that owns the person requests it, and every service confirms it. It is
// the only topic with several producers: no service owns an erasure.
var (
	ErasureRequested = event.Type[Erasure]{Name: "erasure.requested", Topic: ErasuresTopic}
	ErasureWaiting   = event.Type[ErasureWait]{Name: "erasure.waiting", Topic: ErasuresTopic}
	ErasureDone      = event.Type[ErasureConfirmation]{Name: "erasure.done", Topic: ErasuresTopic}
)

// The kinds of people whose data is erased.
const (
	KindClient = "client"
	KindLead   = "lead"
	KindAgent  = "agent"
)

// Erasure is the request to erase what the services have of a person. It has nothing personal.
type Erasure struct {
	ErasureID string `json:"erasure_id"`
	Kind      string `json:"kind"`       // client, lead, agent
	SubjectID string `json:"subject_id"` // of the client, lead or agent
	// SubjectVersion is the last version of the subject: a copy that is older, and comes later, must not bring it back.
	SubjectVersion int64     `json:"subject_version"`
	RequestedBy    string    `json:"requested_by"` // id of the agent
	RequestedAt    time.Time `json:"requested_at"`
}

// AggregateID returns the erasure's id.
func (e Erasure) AggregateID() string { return e.ErasureID }

// ErasureConfirmation says that a service has nothing of the person anymore.
type ErasureConfirmation struct {
	ErasureID string    `json:"erasure_id"`
	Kind      string    `json:"kind"`
	SubjectID string    `json:"subject_id"`
	Service   string    `json:"service"` // auth, calls, crm, notify
	DoneAt    time.Time `json:"done_at"`
}

// AggregateID returns the erasure's id.
func (e ErasureConfirmation) AggregateID() string { return e.ErasureID }

// DoneBy returns the event with which a service confirms the erasure.
func (e Erasure) DoneBy(service string, at time.Time) event.Event {
	return ErasureDone.New(at, ErasureConfirmation{ErasureID: e.ErasureID, Kind: e.Kind, SubjectID: e.SubjectID, Service: service, DoneAt: at})
}

// ErasureWait says that a service may not erase everything yet. It confirms when it has.
type ErasureWait struct {
	ErasureID string    `json:"erasure_id"`
	Service   string    `json:"service"`
	Reason    string    `json:"reason"` // legal_hold
	Since     time.Time `json:"since"`
}

// AggregateID returns the erasure's id.
func (e ErasureWait) AggregateID() string { return e.ErasureID }

// WaitsIn returns the event with which a service says that it may not erase everything yet.
func (e Erasure) WaitsIn(service, reason string, since time.Time) event.Event {
	return ErasureWaiting.New(since, ErasureWait{ErasureID: e.ErasureID, Service: service, Reason: reason, Since: since})
}
