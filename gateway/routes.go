package gateway

import (
	"time"

	"github.com/convoflow/convoflow/libs/openapi"
)

// route is one operation of the platform and who may call it how.
type route struct {
	pattern string // method and path, as in the contract
	op      string // operationId of the contract
	service string
	access  openapi.Access
	class   class
	body    int64         // bytes of the request's body at most
	timeout time.Duration // of the whole exchange; streamed (0) lasts as long as bytes flow
}

// class is what operations have in common that may be called equally often.
type class string

const (
	login     class = "login" // counted by address alone: nobody is logged in, and passwords are guessed here
	upload    class = "upload"
	read      class = "read"
	write     class = "write"
	analytics class = "analytics"
)

const (
	small     = 1 << 20          // bytes: JSON and forms, as much as the services read
	quick     = 25 * time.Second // the services give up after 20 s themselves, with a better answer
	streamed  = 0
	multipart = 1 << 20 // bytes around a recording: its fields and boundaries
)

// routes is the table of everything that can be called, exactly the operations of the OpenAPI documents. audio is the
// largest recording in bytes.
func routes(audio int64) []route {
	const anyone, agent, admin = openapi.Anyone, openapi.Agent, openapi.Admin
	return []route{
		{"POST /auth/register", "auth.register", "auth", anyone, login, small, quick},
		{"POST /auth/login", "auth.login", "auth", anyone, login, small, quick},
		{"POST /auth/refresh", "auth.refresh", "auth", anyone, write, small, quick},
		{"POST /auth/logout", "auth.logout", "auth", agent, write, small, quick},
		{"GET /auth/me", "auth.me", "auth", agent, read, small, quick},
		{"PATCH /auth/me", "auth.update", "auth", agent, write, small, quick},
		{"POST /auth/me/password", "auth.change_password", "auth", agent, write, small, quick},
		{"GET /auth/sessions", "auth.list_sessions", "auth", agent, read, small, quick},
		{"DELETE /auth/sessions/{id}", "auth.remove_session", "auth", agent, write, small, quick},
		{"GET /agents", "auth.list_agents", "auth", agent, read, small, quick},
		{"POST /agents", "auth.create_agent", "auth", admin, write, small, quick},
		{"GET /agents/{id}", "auth.get_agent", "auth", agent, read, small, quick},
		{"PATCH /agents/{id}", "auth.update_agent", "auth", admin, write, small, quick},
		{"DELETE /agents/{id}", "auth.delete_agent", "auth", admin, write, small, quick},
		{"GET /.well-known/jwks.json", "auth.jwks", "auth", anyone, read, small, quick},

		{"POST /calls/upload", "calls.upload", "calls", agent, upload, audio + multipart, streamed},
		{"GET /calls", "calls.list", "calls", agent, read, small, quick},
		{"GET /calls/{id}", "calls.get", "calls", agent, read, small, quick},
		{"GET /calls/{id}/audio", "calls.audio", "calls", agent, read, small, streamed},
		{"DELETE /calls/{id}", "calls.delete", "calls", agent, write, small, quick},
		{"POST /calls/{id}/retry", "calls.retry", "calls", agent, write, small, quick},

		{"GET /clients", "crm.list_clients", "crm", agent, read, small, quick},
		{"POST /clients", "crm.create_client", "crm", agent, write, small, quick},
		{"GET /clients/{id}", "crm.get_client", "crm", agent, read, small, quick},
		{"PUT /clients/{id}", "crm.replace_client", "crm", agent, write, small, quick},
		{"PATCH /clients/{id}", "crm.update_client", "crm", agent, write, small, quick},
		{"DELETE /clients/{id}", "crm.delete_client", "crm", agent, write, small, quick},
		{"GET /followups", "crm.list_followups", "crm", agent, read, small, quick},
		{"POST /followups", "crm.create_followup", "crm", agent, write, small, quick},
		{"POST /followups/{id}", "crm.create_followup_for_call", "crm", agent, write, small, quick},
		{"GET /followups/{id}", "crm.get_followup", "crm", agent, read, small, quick},
		{"PUT /followups/{id}", "crm.replace_followup", "crm", agent, write, small, quick},
		{"PATCH /followups/{id}", "crm.update_followup", "crm", agent, write, small, quick},
		{"DELETE /followups/{id}", "crm.delete_followup", "crm", agent, write, small, quick},
		{"PATCH /followups/{id}/complete", "crm.complete_followup", "crm", agent, write, small, quick},

		{"GET /webhooks/deliveries", "notify.list_deliveries", "notify", admin, read, small, quick},
		{"GET /webhooks/deliveries/{id}", "notify.get_delivery", "notify", admin, read, small, quick},

		{"GET /health", "gateway.health", "gateway", anyone, read, small, quick},
		{"GET /ready", "gateway.ready", "gateway", anyone, read, small, quick},
		{"GET /openapi.json", "gateway.openapi", "gateway", anyone, read, small, quick},
		{"GET /docs", "gateway.docs", "gateway", anyone, read, small, quick},
	}
}
