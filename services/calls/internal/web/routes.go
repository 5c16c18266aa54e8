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
	created, accepted, noContent, once := rpc.Status(http.StatusCreated), rpc.Status(http.StatusAccepted), rpc.Status(http.StatusNoContent), rpc.Idempotent()
	view, summary := rpc.View(viewCall), rpc.View(viewSummary)
	version := rpc.Version(func(c call.Call) int64 { return c.Version })
	audio := rpc.File[call.UploadRequest, call.Uploaded]{
		Field: "audio", MaxBytes: maxBytes, TooLarge: call.TooLarge(maxBytes), Ready: calls.ReadyToUpload, Store: calls.StoreRecording, Discard: calls.DiscardRecording,
		Unused: func(u call.Uploaded) bool { return u.Duplicate },
	}

	rpc.HandleForm(r, "POST /calls/upload", "calls.upload", audio, calls.Upload, accepted, rpc.View(viewUpload), rpc.Before(calls.EnsureUpload), once)
	rpc.Handle(r, "POST /calls", "calls.create", calls.Create, created, view, rpc.Before(calls.EnsureCreate), once)
	rpc.Handle(r, "GET /calls", "calls.list", calls.List, summary)
	rpc.Handle(r, "GET /calls/{id}", "calls.get", calls.Get, view, version, rpc.Poll(calls.Version))
	rpc.Handle(r, "PATCH /calls/{id}", "calls.update", calls.Update, view, rpc.Before(calls.EnsureUpdate))
	rpc.Handle(r, "PATCH /calls/{id}/lead", "calls.link_lead", calls.Link, view, rpc.Before(calls.EnsureLink))
	rpc.Handle(r, "GET /calls/{id}/audio", "calls.audio", calls.Audio, rpc.Respond(serveAudio))
	rpc.Handle(r, "POST /calls/{id}/audio-url", "calls.link_audio", calls.LinkAudio)
	rpc.Handle(r, "GET /calls/{id}/transcript", "calls.transcript", calls.TranscriptFile, rpc.Respond(serveTranscript))
	rpc.Handle(r, "GET /calls/{id}/waveform", "calls.waveform", calls.Waveform)
	rpc.Handle(r, "GET /calls/{id}/events", "calls.watch", calls.Watch, rpc.Stream(source))
	rpc.Handle(r, "GET /events", "calls.watch_all", calls.WatchAll, rpc.Stream(source))
	rpc.Handle(r, "POST /calls/{id}/retry", "calls.retry", calls.Retry, accepted, view)
	rpc.Handle(r, "PUT /calls/{id}/legal-hold", "calls.hold", calls.Hold, view)
	rpc.Handle(r, "POST /calls/{id}/cancel", "calls.cancel", calls.Cancel, view)
	rpc.Handle(r, "GET /usage", "calls.usage", calls.Usage)
	rpc.Handle(r, "POST /internal/intents", "calls.classify", calls.Classify)
	rpc.Handle(r, "DELETE /calls/{id}", "calls.delete", calls.Delete, noContent)
}
