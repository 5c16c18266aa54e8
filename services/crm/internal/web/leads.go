package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// LeadRoutes registers the operations on leads.
func LeadRoutes(r *rpc.Router, leads *lead.Service) {
	created, noContent, once := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent), rpc.Idempotent()
	view, version := rpc.View(ViewLead), rpc.Version(func(l lead.Lead) int64 { return l.Version })
	rpc.Handle(r, "POST /leads", "crm.create_lead", leads.Create, created, view, rpc.Before(leads.EnsureAgent), once)
	rpc.Handle(r, "GET /leads", "crm.list_leads", leads.List, view)
	rpc.Handle(r, "GET /leads/my", "crm.list_my_leads", leads.ListMine, view)
	rpc.Handle(r, "GET /leads/{id}", "crm.get_lead", leads.Get, view, version)
	rpc.Handle(r, "PATCH /leads/{id}", "crm.update_lead", leads.Update, view, version, rpc.Conditional(), rpc.Before(leads.EnsureNewAgent))
	rpc.Handle(r, "DELETE /leads/{id}", "crm.delete_lead", leads.Delete, noContent)
}

// leadView adds the phone number as people see it.
type leadView struct {
	lead.Lead
	Phone string `json:"phone"`
}

// ViewLead returns a lead as the API shows it.
func ViewLead(l lead.Lead) any { return leadView{Lead: l, Phone: l.Number()} }
