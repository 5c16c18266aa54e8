// Package web is the HTTP API of crm.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// Routes is the API on one screen. The error says where it differs from the contract in api/crm.yaml.
func Routes(r *rpc.Router, keeper rpc.Keeper, clients *client.Service, followups *followup.Service) (http.Handler, error) {
	created, gone := rpc.Status(http.StatusCreated), rpc.Status(http.StatusNoContent)
	once := func(op string) rpc.Option { return rpc.Idempotent(keeper, op) }

	rpc.Handle(r, "POST /clients", "crm.create_client", clients.Create, created, once("crm.create_client"))
	rpc.Handle(r, "GET /clients", "crm.list_clients", clients.List, rpc.View(clientList))
	rpc.Handle(r, "GET /clients/{id}", "crm.get_client", clients.Get)
	rpc.Handle(r, "PUT /clients/{id}", "crm.replace_client", clients.Replace)
	rpc.Handle(r, "PATCH /clients/{id}", "crm.update_client", clients.Update)
	rpc.Handle(r, "DELETE /clients/{id}", "crm.delete_client", clients.Delete, gone)

	shown := rpc.View(followUpView)
	rpc.Handle(r, "POST /followups", "crm.create_followup", followups.Create, created, shown, once("crm.create_followup"))
	// Of this one path {id} is the call's: OpenAPI has one name for the parameter of one path.
	rpc.Handle(r, "POST /followups/{id}", "crm.create_followup_for_call", followups.CreateForCall, created, shown, once("crm.create_followup_for_call"))
	rpc.Handle(r, "GET /followups", "crm.list_followups", followups.List, rpc.View(followUpList))
	rpc.Handle(r, "GET /followups/{id}", "crm.get_followup", followups.Get, shown)
	rpc.Handle(r, "PUT /followups/{id}", "crm.replace_followup", followups.Replace, shown)
	rpc.Handle(r, "PATCH /followups/{id}", "crm.update_followup", followups.Update, shown)
	rpc.Handle(r, "PATCH /followups/{id}/complete", "crm.complete_followup", followups.Complete, shown)
	rpc.Handle(r, "DELETE /followups/{id}", "crm.delete_followup", followups.Delete, gone)
	return r.Handler()
}
