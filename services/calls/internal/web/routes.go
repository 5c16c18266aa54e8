// Package web is the HTTP API of calls.
package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/calls.yaml.
// maxBytes is the largest recording.
func Routes(r *rpc.Router, calls *call.Service, maxBytes int64) {
	accepted, noContent := rpc.Status(http.StatusAccepted), rpc.Status(http.StatusNoContent)
	view, summary := rpc.View(viewCall), rpc.View(viewSummary)
	version := rpc.Version(func(c call.Call) int64 { return c.Version })
	audio := rpc.File[call.UploadRequest]{
		Field: "audio", MaxBytes: maxBytes, TooLarge: call.TooLarge(maxBytes), Ready: calls.ReadyToUpload, Store: calls.StoreRecording, Discard: calls.DiscardRecording,
	}

	rpc.HandleForm(r, "POST /calls/upload", "calls.upload", audio, calls.Upload, accepted, view, rpc.Before(calls.EnsureParties), rpc.Idempotent())
	rpc.Handle(r, "GET /calls", "calls.list", calls.List, summary)
	rpc.Handle(r, "GET /calls/{id}", "calls.get", calls.Get, view, version, rpc.Poll(calls.Version))
	rpc.Handle(r, "GET /calls/{id}/audio", "calls.audio", calls.Audio, rpc.Respond(serveAudio))
	rpc.Handle(r, "POST /calls/{id}/retry", "calls.retry", calls.Retry, accepted, view)
	rpc.Handle(r, "POST /calls/{id}/cancel", "calls.cancel", calls.Cancel, view)
	rpc.Handle(r, "GET /usage", "calls.usage", calls.Usage)
	rpc.Handle(r, "POST /internal/intents", "calls.classify", calls.Classify)
	rpc.Handle(r, "DELETE /calls/{id}", "calls.delete", calls.Delete, noContent)
}
