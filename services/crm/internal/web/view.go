package web

import (
	"io"
	"net/http"

	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// followUp adds a field that the apps read besides the status.
type followUp struct {
	followup.FollowUp
	Completed bool `json:"completed"`
}

func viewFollowUp(x followup.FollowUp) any {
	return followUp{FollowUp: x, Completed: x.Status == followup.Completed}
}

// erased answers 204 with the id of the erasure that a deletion started.
func erased(w http.ResponseWriter, _ *http.Request, e erasure.Erasure) error {
	w.Header().Set("Erasure-Id", e.ID)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// serveCalendar answers with a calendar. Its address is secret, so no cache may store it.
func serveCalendar(w http.ResponseWriter, _ *http.Request, c followup.Calendar) error {
	w.Header().Set("Content-Type", "text/calendar; charset=utf-8")
	w.Header().Set("Content-Disposition", `inline; filename="followups.ics"`)
	w.Header().Set("Cache-Control", "no-store")
	_, err := io.WriteString(w, string(c))
	return err
}

// leadView adds the phone number as people see it.
type leadView struct {
	lead.Lead
	Phone string `json:"phone"`
}

// viewLead returns a lead as the API shows it.
func viewLead(l lead.Lead) any { return leadView{Lead: l, Phone: l.Number()} }

// statusOfReceived shows whether the lead is new.
func statusOfReceived(l inbound.Received) int {
	if l.Created {
		return http.StatusCreated
	}
	return http.StatusOK
}
