package web

import (
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
)

func analyticsRoutes(r *rpc.Router, s *analytics.Service) {
	rpc.Handle(r, "GET /analytics/overview", "crm.analytics_overview", s.Overview)
	rpc.Handle(r, "GET /analytics/agents", "crm.analytics_agents", s.Agents)
	rpc.Handle(r, "GET /analytics/topics", "crm.analytics_topics", s.Topics)
}
