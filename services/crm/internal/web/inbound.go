package web

import (
	"net/http"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
)

// inboundRoutes is the operation that automations call. Its answers show whether the lead is new.
func inboundRoutes(r *rpc.Router, leads *inbound.Service) {
	delivery := func(body []byte, header http.Header) inbound.Delivery {
		return inbound.Delivery{Body: body, Signature: header.Get("X-Pabbly-Signature")}
	}
	rpc.HandleRaw(r, "POST /leads/inbound", "crm.receive_lead", delivery, leads.Receive,
		rpc.View(func(l inbound.Received) any { return viewLead(l.Lead) }), rpc.StatusOf(statusOfReceived))
}

func statusOfReceived(l inbound.Received) int {
	if l.Created {
		return http.StatusCreated
	}
	return http.StatusOK
}
