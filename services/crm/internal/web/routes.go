// Package web is the HTTP API of crm. Each noun has a file with its routes.
package web

import (
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
)

// Services are what the API consists of.
type Services struct {
	Clients   *client.Service
	FollowUps *followup.Service
	Leads     *lead.Service
	Inbound   *inbound.Service
	Imports   *leadimport.Service
	Exports   *leadimport.Exporter
	Settings  *setting.Service
	Analytics *analytics.Service
	Erasures  *erasure.Service
}

// Routes registers all operations of the API. The service does not start when it differs from the contract in api/crm.yaml.
func Routes(r *rpc.Router, s Services) {
	clientRoutes(r, s.Clients)
	followUpRoutes(r, s.FollowUps)
	leadRoutes(r, s.Leads)
	inboundRoutes(r, s.Inbound)
	importRoutes(r, s.Imports, s.Exports)
	analyticsRoutes(r, s.Analytics)
	rpc.Handle(r, "GET /settings", "crm.list_settings", s.Settings.List)
	rpc.Handle(r, "PUT /settings/{key}", "crm.put_setting", s.Settings.Put)
	rpc.Handle(r, "GET /erasures/{id}", "crm.get_erasure", s.Erasures.Get)
}
