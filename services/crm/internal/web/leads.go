package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
)

// LeadRoutes registers the operations on leads and settings.
func LeadRoutes(r *rpc.Router, leads *lead.Service, settings *setting.Service) {
	created, once := rpc.Status(http.StatusCreated), rpc.Idempotent()
	view, version := rpc.View(ViewLead), rpc.Version(func(l lead.Lead) int64 { return l.Version })
	rpc.Handle(r, "POST /leads", "crm.create_lead", leads.Create, created, view, rpc.Before(leads.EnsureAgent), once)
	rpc.Handle(r, "GET /leads", "crm.list_leads", leads.List, view)
	rpc.Handle(r, "GET /leads/my", "crm.list_my_leads", leads.ListMine, view)
	rpc.Handle(r, "GET /leads/{id}", "crm.get_lead", leads.Get, view, version)
	rpc.Handle(r, "PATCH /leads/{id}", "crm.update_lead", leads.Update, view, version, rpc.Conditional(), rpc.Before(leads.EnsureNewAgent))
	rpc.Handle(r, "DELETE /leads/{id}", "crm.delete_lead", leads.Delete, rpc.Respond(erased))
	rpc.Handle(r, "POST /leads/{id}/assign", "crm.assign_lead", leads.Assign, view, version, rpc.Conditional(), rpc.Before(leads.EnsureAssignee))
	rpc.Handle(r, "POST /leads/{id}/no-answer", "crm.lead_no_answer", leads.NoAnswer, view, version, once)
	rpc.Handle(r, "POST /leads/{id}/convert", "crm.convert_lead", leads.Convert, view, version)
	rpc.Handle(r, "POST /leads/{id}/classify", "crm.classify_lead", leads.Classify, view, version)
	rpc.Handle(r, "GET /leads/{id}/timeline", "crm.list_lead_timeline", leads.ListTimeline)
	rpc.Handle(r, "POST /leads/bulk", "crm.change_leads", leads.Bulk, rpc.Before(leads.EnsureBulkAgent))

	rpc.Handle(r, "GET /settings", "crm.list_settings", settings.List)
	rpc.Handle(r, "PUT /settings/{key}", "crm.put_setting", settings.Put)
}

// leadView adds the phone number as people see it.
type leadView struct {
	lead.Lead
	Phone string `json:"phone"`
}

// ViewLead returns a lead as the API shows it.
func ViewLead(l lead.Lead) any { return leadView{Lead: l, Phone: l.Number()} }
