// Package web is the HTTP API of crm.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
)

// Services are what the API consists of.
type Services struct {
	Clients   *client.Service
	FollowUps *followup.Service
	Leads     *lead.Service
	Inbound   *inbound.Service
	Imports   *leadimport.Service
	Exports   *leadimport.Exporter
	Settings  *setting.Service
	Analytics *analytics.Service
	Erasures  *erasure.Service
}

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/crm.yaml.
func Routes(r *rpc.Router, s Services) {
	clientRoutes(r, s.Clients)
	followUpRoutes(r, s.FollowUps)
	leadRoutes(r, s.Leads)
	inboundRoutes(r, s.Inbound)
	importRoutes(r, s.Imports, s.Exports)
	analyticsRoutes(r, s.Analytics)
	rpc.Handle(r, "GET /settings", "crm.list_settings", s.Settings.List)
	rpc.Handle(r, "PUT /settings/{key}", "crm.put_setting", s.Settings.Put)
	rpc.Handle(r, "GET /erasures/{id}", "crm.get_erasure", s.Erasures.Get)
}

func clientRoutes(r *rpc.Router, clients *client.Service) {
	created, once := rpc.Status(http.StatusCreated), rpc.Idempotent()
	version := rpc.Version(func(c client.Client) int64 { return c.Version })
	rpc.Handle(r, "POST /clients", "crm.create_client", clients.Create, created, once, rpc.Also(clients.Refuse))
	rpc.Handle(r, "GET /clients", "crm.list_clients", clients.List)
	rpc.Handle(r, "GET /clients/{id}", "crm.get_client", clients.Get, version)
	rpc.Handle(r, "PUT /clients/{id}", "crm.replace_client", clients.Replace, version, rpc.Conditional(), rpc.Also(clients.RefuseReplace))
	rpc.Handle(r, "PATCH /clients/{id}", "crm.update_client", clients.Update, version, rpc.Conditional(), rpc.Also(clients.RefuseUpdate))
	rpc.Handle(r, "DELETE /clients/{id}", "crm.delete_client", clients.Delete, rpc.Respond(erased))
	rpc.Handle(r, "POST /clients/{id}/merge", "crm.merge_client", clients.Merge)
	rpc.Handle(r, "GET /clients/{id}/timeline", "crm.list_client_timeline", clients.ListTimeline)
}

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

func leadRoutes(r *rpc.Router, leads *lead.Service) {
	created, once := rpc.Status(http.StatusCreated), rpc.Idempotent()
	view, version := rpc.View(viewLead), rpc.Version(func(l lead.Lead) int64 { return l.Version })
	rpc.Handle(r, "POST /leads", "crm.create_lead", leads.Create, created, view, rpc.Before(leads.EnsureAgent), once, rpc.Also(leads.Refuse))
	rpc.Handle(r, "GET /leads", "crm.list_leads", leads.List, view)
	rpc.Handle(r, "GET /leads/my", "crm.list_my_leads", leads.ListMine, view)
	rpc.Handle(r, "GET /leads/{id}", "crm.get_lead", leads.Get, view, version)
	rpc.Handle(r, "PATCH /leads/{id}", "crm.update_lead", leads.Update, view, version, rpc.Conditional(), rpc.Before(leads.EnsureNewAgent), rpc.Also(leads.RefuseUpdate))
	rpc.Handle(r, "DELETE /leads/{id}", "crm.delete_lead", leads.Delete, rpc.Respond(erased))
	rpc.Handle(r, "POST /leads/{id}/assign", "crm.assign_lead", leads.Assign, view, version, rpc.Conditional(), rpc.Before(leads.EnsureAssignee))
	rpc.Handle(r, "POST /leads/{id}/no-answer", "crm.lead_no_answer", leads.NoAnswer, view, version, once)
	rpc.Handle(r, "POST /leads/{id}/convert", "crm.convert_lead", leads.Convert, view, version)
	rpc.Handle(r, "POST /leads/{id}/classify", "crm.classify_lead", leads.Classify, view, version)
	rpc.Handle(r, "GET /leads/{id}/timeline", "crm.list_lead_timeline", leads.ListTimeline)
	rpc.Handle(r, "POST /leads/bulk", "crm.change_leads", leads.Bulk, rpc.Before(leads.EnsureBulkAgent))
}

// inboundRoutes is the operation that automations call. Its answers show whether the lead is new.
func inboundRoutes(r *rpc.Router, leads *inbound.Service) {
	delivery := func(body []byte, header http.Header) inbound.Delivery {
		return inbound.Delivery{Body: body, Signature: header.Get("X-Pabbly-Signature")}
	}
	rpc.HandleRaw(r, "POST /leads/inbound", "crm.receive_lead", delivery, leads.Receive,
		rpc.View(func(l inbound.Received) any { return viewLead(l.Lead) }), rpc.StatusOf(statusOfReceived))
}

// importRoutes are the operations that import and export leads.
func importRoutes(r *rpc.Router, imports *leadimport.Service, exports *leadimport.Exporter) {
	view, status := rpc.View(viewOutcome), rpc.StatusOf(statusOfOutcome)
	file := rpc.File[leadimport.Request, leadimport.Outcome]{
		Field: "file", MaxBytes: leadimport.MaxBytes, TooLarge: leadimport.TooLarge(), Ready: imports.Ready, Store: imports.Stage, Discard: imports.Discard,
	}
	rpc.HandleForm(r, "POST /leads/import", "crm.import_leads", file, imports.Import, view, status)
	rpc.Handle(r, "GET /leads/imports/{id}", "crm.get_import", imports.Get, view)
	rpc.Handle(r, "GET /leads/imports/{id}/rows", "crm.list_import_rows", imports.ListRows)
	rpc.Handle(r, "GET /leads/imports/{id}/events", "crm.follow_import", imports.Follow, rpc.Stream(progress))
	rpc.Handle(r, "POST /leads/imports/{id}/revert", "crm.revert_import", imports.Revert, view, status)
	rpc.Handle(r, "GET /leads/export.csv", "crm.export_leads", exports.Export, rpc.Respond(writeExport))
}

func analyticsRoutes(r *rpc.Router, s *analytics.Service) {
	also := rpc.Also(s.Refuse)
	rpc.Handle(r, "GET /analytics/overview", "crm.analytics_overview", s.Overview, also)
	rpc.Handle(r, "GET /analytics/agents", "crm.analytics_agents", s.Agents, also)
	rpc.Handle(r, "GET /analytics/topics", "crm.analytics_topics", s.Topics, also)
}
