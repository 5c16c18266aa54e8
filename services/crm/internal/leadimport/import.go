// Package leadimport owns the import of leads from CSV files and their export: reading files as spreadsheets write them, what becomes
// of each row, and undoing an import. Rows are staged while a file arrives, and stored in batches; a large file is the work of a
// leased job. The package refuses to change a lead that the importing agent may not change, and to undo a change that somebody has
// built on.
package leadimport

import (
	"encoding/json"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// State is how far an import is.
type State string

// The states of an import.
const (
	Staging   State = "staging" // its file arrives
	Running   State = "running"
	Completed State = "completed"
	Reverting State = "reverting"
	Reverted  State = "reverted"
	Failed    State = "failed"
)

// What became of a row.
const (
	Created = "created" // a new lead
	Updated = "updated" // the lead that the row names by its id was changed
	Merged  = "merged"  // empty fields of the lead with the phone number were filled
	Skipped = "skipped"
)

// Import is the import of one file.
type Import struct {
	ID         string `json:"id"`
	AgentID    string `json:"agent_id"` // who made it
	Team       bool   `json:"-"`        // an admin made it
	State      State  `json:"state"`
	DryRun     bool   `json:"dry_run"`
	Distribute bool   `json:"distribute"` // new leads go to the agents with the fewest open ones
	Total      int    `json:"total"`      // rows
	Created    int    `json:"created"`
	Updated    int    `json:"updated"`
	Merged     int    `json:"merged"`
	Skipped    int    `json:"skipped"`
	Reverted   int    `json:"reverted"` // leads
	Retained   int    `json:"retained"` // leads that somebody has changed, so that they were not reverted

	lease.Lease `json:"-"`
	Version     int64      `json:"-"`
	CreatedAt   time.Time  `json:"created_at"`
	FinishedAt  *time.Time `json:"finished_at"`
}

// Processed returns how many rows are done.
func (i *Import) Processed() int { return i.Created + i.Updated + i.Merged + i.Skipped }

// Working reports whether the import has rows or leads to process.
func (i *Import) Working() bool { return i.State == Running || i.State == Reverting }

// caller returns the importing agent.
func (i *Import) caller() identity.Caller {
	c := identity.Caller{AgentID: i.AgentID, Role: identity.Agent}
	if i.Team {
		c.Role = identity.Admin
	}
	return c
}

// CheckAccess fails unless the caller made the import or is an admin.
func (i *Import) CheckAccess(c identity.Caller) error {
	if !c.MaySee(i.AgentID) {
		return fault.New(fault.Forbidden, "import_forbidden", "This import belongs to another agent")
	}
	return nil
}

// start begins the work on the import: by a job, or by this process if it has few rows.
func (i *Import) start(s State, byJob bool) {
	i.State = s
	if byJob {
		i.Restart()
	} else {
		i.Stop() // supersedes the worker before
	}
}

// finish ends the work of the worker with this epoch.
func (i *Import) finish(epoch int64, now time.Time) error {
	if err := i.End(epoch); err != nil {
		return err
	}
	if i.State == Reverting {
		i.State = Reverted
	} else {
		i.State = Completed
	}
	i.FinishedAt = &now
	return nil
}

// count counts the result of a row.
func (i *Import) count(result string) {
	switch result {
	case Created:
		i.Created++
	case Updated:
		i.Updated++
	case Merged:
		i.Merged++
	default:
		i.Skipped++
	}
}

// Result is what became of a row.
type Result struct {
	Line     int     `json:"line"`
	Result   *string `json:"result"` // nil while the row waits
	Reason   *string `json:"reason"`
	LeadID   *string `json:"lead_id"`
	Reverted *bool   `json:"reverted"` // nil unless the import was reverted and the lead still existed
}

// Staged is a row that is stored and waits, or that cannot be imported.
type Staged struct {
	Line int
	Data Record
	// Result and what follows are set when the row is done.
	Result string
	Reason string
	LeadID *string
}

// done sets the result of a row.
func (r *Staged) done(result, reason string, leadID *string) {
	r.Result, r.Reason, r.LeadID = result, reason, leadID
}

// Record is what a row says.
type Record struct {
	LeadID  string `json:"lead_id"`  // of the lead that the row is about; empty if the row names none
	AgentID string `json:"agent_id"` // of a new lead; empty if the row names none
	lead.Incoming
}

// empty reports whether the record says about nobody, and so cannot be imported: one whose lead was erased is empty too.
func (r Record) empty() bool { return r.Phone == nil && r.RawPhone == nil && r.LeadID == "" }

// Touched is a lead that an import has changed.
type Touched struct {
	LeadID  string
	Line    int             // of the first row about it
	Version int64           // of the lead after the import
	Before  json.RawMessage // a lead.Snapshot; nil for a new lead
}

// Create returns an import whose file arrives.
func Create(c identity.Caller, now time.Time) Import {
	return Import{ID: event.NewID(), AgentID: c.AgentID, Team: c.IsAdmin(), State: Staging, Version: 1, CreatedAt: now}
}

// NotFound is the fault of an import that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "import_not_found", "Import not found") }
