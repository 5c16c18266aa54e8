// Package web is the HTTP API of the service. It refuses to know rules: it turns requests into those of the domain and
// calls into the JSON that apps know.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes is the API. Uploads above maxBytes are cut.
func Routes(svc *call.Service, chain *op.Chain, auth rpc.Authenticator, tel telemetry.Set, maxBytes int64) (http.Handler, error) {
	doc, err := api.Document("calls")
	if err != nil {
		return nil, err
	}
	r, err := rpc.NewRouter(doc, chain, auth, tel)
	if err != nil {
		return nil, err
	}
	rpc.HandleWith(r, "POST /calls/upload", "calls.upload", decodeUpload(maxBytes), svc.Upload, rpc.Status(http.StatusAccepted), rpc.View(view), rpc.Stream())
	rpc.Handle(r, "GET /calls", "calls.list", svc.List, rpc.View(viewList))
	rpc.Handle(r, "GET /calls/{id}", "calls.get", svc.Get, rpc.View(view))
	rpc.Handle(r, "GET /calls/{id}/audio", "calls.audio", svc.Audio, rpc.Respond(serveAudio), rpc.Timeout(0))
	rpc.Handle(r, "POST /calls/{id}/retry", "calls.retry", svc.Retry, rpc.Status(http.StatusAccepted), rpc.View(view))
	rpc.Handle(r, "DELETE /calls/{id}", "calls.delete", svc.Delete, rpc.Status(http.StatusNoContent))
	handler, err := r.Handler()
	if err != nil {
		return nil, err
	}
	return cutStalled(handler, clock.System{}), nil
}
