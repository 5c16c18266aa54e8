package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

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

// leadView adds the phone number as people see it.
type leadView struct {
	lead.Lead
	Phone string `json:"phone"`
}

// viewLead returns a lead as the API shows it.
func viewLead(l lead.Lead) any { return leadView{Lead: l, Phone: l.Number()} }
