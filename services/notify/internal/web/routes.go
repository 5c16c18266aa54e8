// Package web is the HTTP API of notify. Every route but notify.verify is for admins, as the contract says.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/notify.yaml.
func Routes(r *rpc.Router, endpoints *endpoint.Service, deliveries *delivery.Service) {
	endpointRoutes(r, endpoints, deliveries)
	version := rpc.Version(func(d delivery.Detail) int64 { return d.Version() })
	rpc.Handle(r, "GET /webhooks/deliveries", "notify.list_deliveries", deliveries.List, rpc.View(viewDelivery))
	rpc.Handle(r, "GET /webhooks/deliveries/{id}", "notify.get_delivery", deliveries.Get, rpc.View(viewDetail), version)
	rpc.Handle(r, "POST /webhooks/deliveries/{id}/redeliver", "notify.redeliver", deliveries.Redeliver, rpc.Status(http.StatusAccepted), rpc.Idempotent())
	rpc.Handle(r, "POST /webhooks/deliveries/replay", "notify.replay", deliveries.Replay, rpc.Status(http.StatusAccepted), rpc.Idempotent())
	rpc.Handle(r, "POST /webhooks/deliveries/replays/{id}/cancel", "notify.cancel_replay", deliveries.CancelReplay)
}
