package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

func followUpRoutes(r *rpc.Router, followups *followup.Service) {
	created, noContent, once := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent), rpc.Idempotent()
	view, revision := rpc.View(viewFollowUp), rpc.Version(func(f followup.FollowUp) int64 { return f.Version })
	rpc.Handle(r, "POST /followups", "crm.create_followup", followups.Create, created, view, rpc.Before(followups.EnsureCall), once)
	// The {id} of this path is the call's: OpenAPI has one name for the parameter of one path.
	rpc.Handle(r, "POST /followups/{id}", "crm.create_followup_for_call", followups.CreateForCall, created, view, rpc.Before(followups.EnsureCallOfPath), once)
	rpc.Handle(r, "GET /followups", "crm.list_followups", followups.List, view)
	rpc.Handle(r, "GET /followups/{id}", "crm.get_followup", followups.Get, view, revision)
	rpc.Handle(r, "PUT /followups/{id}", "crm.replace_followup", followups.Replace, view, revision, rpc.Conditional())
	rpc.Handle(r, "PATCH /followups/{id}", "crm.update_followup", followups.Update, view, revision, rpc.Conditional())
	rpc.Handle(r, "PATCH /followups/{id}/complete", "crm.complete_followup", followups.Complete, view, revision, rpc.Conditional())
	rpc.Handle(r, "DELETE /followups/{id}", "crm.delete_followup", followups.Delete, noContent)
	rpc.Handle(r, "GET /followups.ics", "crm.followup_calendar", followups.Calendar, rpc.Respond(serveCalendar))
	rpc.Handle(r, "POST /followups.ics/token", "crm.create_calendar_token", followups.CreateCalendarToken, created)
	rpc.Handle(r, "DELETE /followups.ics/token", "crm.delete_calendar_token", followups.RemoveCalendarToken, noContent)
}
