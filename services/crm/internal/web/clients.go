package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/client"
)

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
