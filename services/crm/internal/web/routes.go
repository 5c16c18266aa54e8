// Package web is the HTTP API of crm.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/crm.yaml.
func Routes(r *rpc.Router, clients *client.Service, followups *followup.Service, erasures *erasure.Service) {
	created, noContent, once := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent), rpc.Idempotent()

	version := rpc.Version(func(c client.Client) int64 { return c.Version })
	rpc.Handle(r, "POST /clients", "crm.create_client", clients.Create, created, once)
	rpc.Handle(r, "GET /clients", "crm.list_clients", clients.List)
	rpc.Handle(r, "GET /clients/{id}", "crm.get_client", clients.Get, version)
	rpc.Handle(r, "PUT /clients/{id}", "crm.replace_client", clients.Replace)
	rpc.Handle(r, "PATCH /clients/{id}", "crm.update_client", clients.Update)
	rpc.Handle(r, "DELETE /clients/{id}", "crm.delete_client", clients.Delete, rpc.Respond(erased))
	rpc.Handle(r, "POST /clients/{id}/merge", "crm.merge_client", clients.Merge)
	rpc.Handle(r, "GET /clients/{id}/timeline", "crm.list_client_timeline", clients.ListTimeline)
	rpc.Handle(r, "GET /erasures/{id}", "crm.get_erasure", erasures.Get)

	view, revision := rpc.View(viewFollowUp), rpc.Version(func(f followup.FollowUp) int64 { return f.Version })
	rpc.Handle(r, "POST /followups", "crm.create_followup", followups.Create, created, view, rpc.Before(followups.EnsureCall), once)
	// The {id} of this path is the call's: OpenAPI has one name for the parameter of one path.
	rpc.Handle(r, "POST /followups/{id}", "crm.create_followup_for_call", followups.CreateForCall, created, view, rpc.Before(followups.EnsureCallOfPath), once)
	rpc.Handle(r, "GET /followups", "crm.list_followups", followups.List, view)
	rpc.Handle(r, "GET /followups/{id}", "crm.get_followup", followups.Get, view, revision)
	rpc.Handle(r, "PUT /followups/{id}", "crm.replace_followup", followups.Replace, view)
	rpc.Handle(r, "PATCH /followups/{id}", "crm.update_followup", followups.Update, view)
	rpc.Handle(r, "PATCH /followups/{id}/complete", "crm.complete_followup", followups.Complete, view)
	rpc.Handle(r, "DELETE /followups/{id}", "crm.delete_followup", followups.Delete, noContent)
	rpc.Handle(r, "GET /followups.ics", "crm.followup_calendar", followups.Calendar, rpc.Respond(serveCalendar))
	rpc.Handle(r, "POST /followups.ics/token", "crm.create_calendar_token", followups.CreateCalendarToken, created)
	rpc.Handle(r, "DELETE /followups.ics/token", "crm.delete_calendar_token", followups.RemoveCalendarToken, noContent)
}
