// Package web is notify's API, on one screen. Every route is for admins: the contract in api/notify.yaml says so.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Routes is the API of the service.
func Routes(r *rpc.Router, deliveries *delivery.Service) (http.Handler, error) {
	rpc.Handle(r, "GET /webhooks/deliveries", "notify.list_deliveries", deliveries.List, rpc.View(page))
	rpc.Handle(r, "GET /webhooks/deliveries/{id}", "notify.get_delivery", deliveries.Get)
	return r.Handler()
}

func page(p delivery.Page) any { return rpc.List{Items: p.Items, Next: p.Next} }
