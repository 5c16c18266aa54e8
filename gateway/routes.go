package gateway

import (
	"time"

	"github.com/convoflow/convoflow/libs/rpc"
)

// route is one operation of the platform and who may call it how.
type route struct {
	pattern string // method and path, as in the contract
	op      string // operationId of the contract
	service string
	access  rpc.Access
	body    int64         // bytes of the request's body at most
	timeout time.Duration // of the whole exchange; streamed (0) lasts as long as bytes flow
}

const (
	small     = 1 << 20          // bytes: JSON and forms, as much as the services read
	quick     = 25 * time.Second // the services give up after 20 s themselves, with a better answer
	streamed  = 0
	multipart = 1 << 20 // bytes around a recording: its fields and boundaries
)

// routes is the table of everything that can be called, exactly the operations of the OpenAPI documents. audio is the
// largest recording in bytes.
func routes(audio int64) []route {
	const anyone, agent, admin = rpc.Anyone, rpc.Agent, rpc.Admin
	return []route{
		{"POST /auth/register", "auth.register", "auth", anyone, small, quick},
		{"POST /auth/login", "auth.login", "auth", anyone, small, quick},
		{"POST /auth/refresh", "auth.refresh", "auth", anyone, small, quick},
		{"POST /auth/logout", "auth.logout", "auth", agent, small, quick},
		{"GET /auth/me", "auth.me", "auth", agent, small, quick},
		{"PATCH /auth/me", "auth.update", "auth", agent, small, quick},
		{"POST /auth/me/password", "auth.change_password", "auth", agent, small, quick},
		{"GET /auth/sessions", "auth.list_sessions", "auth", agent, small, quick},
		{"DELETE /auth/sessions/{id}", "auth.remove_session", "auth", agent, small, quick},
		{"GET /agents", "auth.list_agents", "auth", admin, small, quick},
		{"POST /agents", "auth.create_agent", "auth", admin, small, quick},
		{"GET /agents/{id}", "auth.get_agent", "auth", admin, small, quick},
		{"PATCH /agents/{id}", "auth.update_agent", "auth", admin, small, quick},
		{"GET /.well-known/jwks.json", "auth.jwks", "auth", anyone, small, quick},

		{"POST /calls/upload", "calls.upload", "calls", agent, audio + multipart, streamed},
		{"GET /calls", "calls.list", "calls", agent, small, quick},
		{"GET /calls/{id}", "calls.get", "calls", agent, small, quick},
		{"GET /calls/{id}/audio", "calls.audio", "calls", agent, small, streamed},
		{"DELETE /calls/{id}", "calls.delete", "calls", agent, small, quick},
		{"POST /calls/{id}/retry", "calls.retry", "calls", agent, small, quick},

		{"GET /clients", "crm.list_clients", "crm", agent, small, quick},
		{"POST /clients", "crm.create_client", "crm", agent, small, quick},
		{"GET /clients/{id}", "crm.get_client", "crm", agent, small, quick},
		{"PUT /clients/{id}", "crm.replace_client", "crm", agent, small, quick},
		{"PATCH /clients/{id}", "crm.update_client", "crm", agent, small, quick},
		{"DELETE /clients/{id}", "crm.delete_client", "crm", agent, small, quick},
		{"GET /followups", "crm.list_followups", "crm", agent, small, quick},
		{"POST /followups", "crm.create_followup", "crm", agent, small, quick},
		{"POST /followups/{id}", "crm.create_followup_for_call", "crm", agent, small, quick},
		{"GET /followups/{id}", "crm.get_followup", "crm", agent, small, quick},
		{"PUT /followups/{id}", "crm.replace_followup", "crm", agent, small, quick},
		{"PATCH /followups/{id}", "crm.update_followup", "crm", agent, small, quick},
		{"DELETE /followups/{id}", "crm.delete_followup", "crm", agent, small, quick},
		{"PATCH /followups/{id}/complete", "crm.complete_followup", "crm", agent, small, quick},

		{"GET /webhooks/deliveries", "notify.list_deliveries", "notify", admin, small, quick},
		{"GET /webhooks/deliveries/{id}", "notify.get_delivery", "notify", admin, small, quick},

		{"GET /health", "gateway.health", "gateway", anyone, small, quick},
		{"GET /ready", "gateway.ready", "gateway", anyone, small, quick},
		{"GET /openapi.json", "gateway.openapi", "gateway", anyone, small, quick},
		{"GET /docs", "gateway.docs", "gateway", anyone, small, quick},
	}
}
