package gateway

import (
	"time"

	"github.com/convoflow/convoflow/libs/rpc"
)

// route is one operation of the platform with its access, limits and timeout.
type route struct {
	pattern string // method and path, as in the contract
	op      string // operationId of the contract
	service string
	access  rpc.Access
	class   class
	body    int64         // maximum size of the request body in bytes
	timeout time.Duration // of the whole exchange; streamed (0) has none
}

// class groups the operations that share a rate limit.
type class string

const (
	login     class = "login" // limited per address only: there is no agent yet, and passwords can be guessed
	upload    class = "upload"
	read      class = "read"
	write     class = "write"
	analytics class = "analytics"
)

const (
	small     = 1 << 20          // bytes: JSON and forms, the limit of the services
	buffered  = 25 * time.Second // more than the 20 s after which the services time out themselves, with a more precise error
	streamed  = 0
	multipart = 1 << 20 // bytes around a recording: other fields and boundaries
)

// routes returns all operations, exactly those of the OpenAPI documents. audio is the maximum size of a recording in bytes.
func routes(audio int64) []route {
	const anyone, agent, admin = rpc.Anyone, rpc.Agent, rpc.Admin
	return []route{
		{"POST /auth/register", "auth.register", "auth", anyone, login, small, buffered},
		{"POST /auth/login", "auth.login", "auth", anyone, login, small, buffered},
		{"POST /auth/refresh", "auth.refresh", "auth", anyone, write, small, buffered},
		{"POST /auth/logout", "auth.logout", "auth", agent, write, small, buffered},
		{"GET /auth/me", "auth.me", "auth", agent, read, small, buffered},
		{"PATCH /auth/me", "auth.update", "auth", agent, write, small, buffered},
		{"POST /auth/me/password", "auth.change_password", "auth", agent, write, small, buffered},
		{"GET /auth/sessions", "auth.list_sessions", "auth", agent, read, small, buffered},
		{"DELETE /auth/sessions/{id}", "auth.remove_session", "auth", agent, write, small, buffered},
		{"GET /agents", "auth.list_agents", "auth", admin, read, small, buffered},
		{"POST /agents", "auth.create_agent", "auth", admin, write, small, buffered},
		{"GET /agents/{id}", "auth.get_agent", "auth", admin, read, small, buffered},
		{"PATCH /agents/{id}", "auth.update_agent", "auth", admin, write, small, buffered},
		{"GET /.well-known/jwks.json", "auth.jwks", "auth", anyone, read, small, buffered},

		{"POST /calls/upload", "calls.upload", "calls", agent, upload, audio + multipart, streamed},
		{"GET /calls", "calls.list", "calls", agent, read, small, buffered},
		{"GET /calls/{id}", "calls.get", "calls", agent, read, small, buffered},
		{"GET /calls/{id}/audio", "calls.audio", "calls", agent, read, small, streamed},
		{"DELETE /calls/{id}", "calls.delete", "calls", agent, write, small, buffered},
		{"POST /calls/{id}/retry", "calls.retry", "calls", agent, write, small, buffered},

		{"GET /clients", "crm.list_clients", "crm", agent, read, small, buffered},
		{"POST /clients", "crm.create_client", "crm", agent, write, small, buffered},
		{"GET /clients/{id}", "crm.get_client", "crm", agent, read, small, buffered},
		{"PUT /clients/{id}", "crm.replace_client", "crm", agent, write, small, buffered},
		{"PATCH /clients/{id}", "crm.update_client", "crm", agent, write, small, buffered},
		{"DELETE /clients/{id}", "crm.delete_client", "crm", agent, write, small, buffered},
		{"GET /followups", "crm.list_followups", "crm", agent, read, small, buffered},
		{"POST /followups", "crm.create_followup", "crm", agent, write, small, buffered},
		{"POST /followups/{id}", "crm.create_followup_for_call", "crm", agent, write, small, buffered},
		{"GET /followups/{id}", "crm.get_followup", "crm", agent, read, small, buffered},
		{"PUT /followups/{id}", "crm.replace_followup", "crm", agent, write, small, buffered},
		{"PATCH /followups/{id}", "crm.update_followup", "crm", agent, write, small, buffered},
		{"DELETE /followups/{id}", "crm.delete_followup", "crm", agent, write, small, buffered},
		{"PATCH /followups/{id}/complete", "crm.complete_followup", "crm", agent, write, small, buffered},

		{"GET /webhooks/deliveries", "notify.list_deliveries", "notify", admin, read, small, buffered},
		{"GET /webhooks/deliveries/{id}", "notify.get_delivery", "notify", admin, read, small, buffered},

		{"GET /health", "gateway.health", "gateway", anyone, read, small, buffered},
		{"GET /ready", "gateway.ready", "gateway", anyone, read, small, buffered},
		{"GET /openapi.json", "gateway.openapi", "gateway", anyone, read, small, buffered},
		{"GET /docs", "gateway.docs", "gateway", anyone, read, small, buffered},
	}
}
