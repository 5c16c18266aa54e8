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
	deliveryRoutes(r, deliveries)
}

func endpointRoutes(r *rpc.Router, endpoints *endpoint.Service, deliveries *delivery.Service) {
	view, withSecret := rpc.View(viewEndpoint), rpc.View(viewWithSecret)
	version := rpc.Version(func(e endpoint.Endpoint) int64 { return e.Epoch })
	rpc.Handle(r, "POST /webhooks", "notify.create_webhook", endpoints.Create, withSecret, rpc.Status(http.StatusCreated), rpc.Redacted(withoutSecret), rpc.Also(endpoints.Refuse))
	rpc.Handle(r, "GET /webhooks", "notify.list_webhooks", endpoints.List, view)
	rpc.Handle(r, "GET /webhooks/{id}", "notify.get_webhook", endpoints.Get, view, version)
	rpc.Handle(r, "PATCH /webhooks/{id}", "notify.update_webhook", endpoints.Update, view, version, rpc.Conditional(), rpc.Also(endpoints.RefuseUpdate))
	rpc.Handle(r, "DELETE /webhooks/{id}", "notify.delete_webhook", endpoints.Delete, rpc.Status(http.StatusNoContent))
	rpc.Handle(r, "POST /webhooks/{id}/rotate-secret", "notify.rotate_secret", endpoints.Rotate, withSecret)
	rpc.Handle(r, "POST /webhooks/{id}/test", "notify.test_webhook", deliveries.Test)
	rpc.Handle(r, "GET /webhooks/verify/{event_id}", "notify.verify", deliveries.Verify)
}

func deliveryRoutes(r *rpc.Router, deliveries *delivery.Service) {
	version := rpc.Version(func(d delivery.Detail) int64 { return d.Version() })
	rpc.Handle(r, "GET /webhooks/deliveries", "notify.list_deliveries", deliveries.List, rpc.View(viewDelivery))
	rpc.Handle(r, "GET /webhooks/deliveries/{id}", "notify.get_delivery", deliveries.Get, rpc.View(viewDetail), version)
	rpc.Handle(r, "POST /webhooks/deliveries/{id}/redeliver", "notify.redeliver", deliveries.Redeliver, rpc.Status(http.StatusAccepted), rpc.Idempotent())
	rpc.Handle(r, "POST /webhooks/deliveries/replay", "notify.replay", deliveries.Replay, rpc.Status(http.StatusAccepted), rpc.Idempotent())
	rpc.Handle(r, "POST /webhooks/deliveries/replays/{id}/cancel", "notify.cancel_replay", deliveries.CancelReplay)
}
