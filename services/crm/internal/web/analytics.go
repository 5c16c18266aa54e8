package web

import (
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
)

func analyticsRoutes(r *rpc.Router, s *analytics.Service) {
	also := rpc.Also(s.Refuse)
	rpc.Handle(r, "GET /analytics/overview", "crm.analytics_overview", s.Overview, also)
	rpc.Handle(r, "GET /analytics/agents", "crm.analytics_agents", s.Agents, also)
	rpc.Handle(r, "GET /analytics/topics", "crm.analytics_topics", s.Topics, also)
}
