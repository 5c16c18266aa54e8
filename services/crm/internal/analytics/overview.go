package analytics

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Overview is the dashboard. Its JSON is that of the API.
type Overview struct {
	TotalLeads          int64            `json:"total_leads"`
	LeadsByStatus       map[string]int64 `json:"leads_by_status"` // built-in ones also with zero
	LeadsByIntent       map[string]int64 `json:"leads_by_intent"` // all of them
	LeadsByCampaign     map[string]int64 `json:"leads_by_campaign"`
	CampaignBreakdown   []Campaign       `json:"campaign_breakdown"`  // most leads first
	IntentDistribution  []IntentCount    `json:"intent_distribution"` // most leads first
	DailyStats          []Day            `json:"daily_stats"`         // oldest first
	TotalCallsToday     int64            `json:"total_calls_today"`
	TotalConversions    int64            `json:"total_conversions"`
	ConversionRate      float64          `json:"conversion_rate"` // percent
	AgentStats          []AgentStats     `json:"agent_stats"`     // most conversions first
	StaleLeadsCount     int64            `json:"stale_leads_count"`
	FollowUpsDueToday   int64            `json:"followups_due_today"`
	LeadsWithoutContact int64            `json:"leads_without_contact"`
	AvgFollowUpCount    float64          `json:"avg_followup_count"`
	StatusFunnel        []Stage          `json:"status_funnel"` // in the order of a sale
	SentimentByDay      []SentimentDay   `json:"sentiment_by_day"`
	WhatsappActiveCount int64            `json:"whatsapp_active_count"` // always 0: there is no chat
}

// Campaign is what came of a campaign.
type Campaign struct {
	Campaign       string  `json:"campaign"`
	Leads          int64   `json:"leads"`
	Converted      int64   `json:"converted"`
	ConversionRate float64 `json:"conversion_rate"`
}

// IntentCount is the number of leads with an intent.
type IntentCount struct {
	Intent string `json:"intent"`
	Count  int64  `json:"count"`
}

// Day is what happened on a day.
type Day struct {
	Date        string `json:"date"` // "Jan 02"
	Day         string `json:"day"`  // "2026-01-02"
	NewLeads    int64  `json:"new_leads"`
	CallsMade   int64  `json:"calls_made"`
	Conversions int64  `json:"conversions"`
}

// AgentStats is what an agent has done, over all time.
type AgentStats struct {
	AgentID        string  `json:"agent_id"`
	AgentName      string  `json:"agent_name"`
	CallsMade      int64   `json:"calls_made"`
	LeadsAssigned  int64   `json:"leads_assigned"`
	Conversions    int64   `json:"conversions"`
	ConversionRate float64 `json:"conversion_rate"`
}

// Stage is the number of leads with a status.
type Stage struct {
	Stage string  `json:"stage"`
	Count int64   `json:"count"`
	Pct   float64 `json:"pct"`
}

// SentimentDay is the sentiment of a day's calls.
type SentimentDay struct {
	Date     string `json:"date"`
	Day      string `json:"day"`
	Positive int64  `json:"positive"`
	Neutral  int64  `json:"neutral"`
	Negative int64  `json:"negative"`
}

const (
	shortDate = "Jan 02"
	isoDate   = "2006-01-02"
	// noCampaign is the name of the leads without a campaign.
	noCampaign = "Unknown"
)

// Query selects what a Snapshot has.
type Query struct {
	Scope    string // Team or an agent
	Calendar Calendar
	Stale    Slot // the first slot of a contact that is not stale
}

// Snapshot is the counts at one moment: those that were folded, and the deltas since.
type Snapshot struct {
	Totals map[Kind]map[string]int64
	Days   map[Measure][]int64 // per day of the calendar
	Recent int64               // open leads touched since Query.Stale
	Deltas []Delta
	Due    int64             // pending follow-ups that are due today
	Names  map[string]string // of agents by id
}

// fold adds the deltas to the counts.
func (s *Snapshot) fold(q Query) {
	add := func(kind Kind, key string, n int64) {
		if s.Totals[kind] == nil {
			s.Totals[kind] = map[string]int64{}
		}
		s.Totals[kind][key] += n
	}
	for _, d := range s.Deltas {
		signed := func(kind Kind, key string, n int64) { add(kind, key, n*int64(d.Sign)) }
		d.totals(signed)
		if q.Scope == Team {
			d.ofTeam(signed)
		}
		d.days(func(m Measure, at Slot) {
			if m == Touched {
				if at >= q.Stale {
					s.Recent += int64(d.Sign)
				}
				return
			}
			if i := q.Calendar.index(at); i >= 0 {
				s.Days[m][i] += int64(d.Sign)
			}
		})
	}
	s.Deltas = nil
}

// overview returns the dashboard.
func (s *Snapshot) overview(q Query) Overview {
	s.fold(q)
	total := sum(s.Totals[ByStatus])
	converted := s.Totals[ByStatus][string(lead.Converted)]
	days := len(q.Calendar.Days)
	o := Overview{
		TotalLeads: total, TotalConversions: converted, ConversionRate: percent(converted, total),
		LeadsByStatus: map[string]int64{}, LeadsByIntent: map[string]int64{}, LeadsByCampaign: map[string]int64{},
		CampaignBreakdown: []Campaign{}, IntentDistribution: []IntentCount{}, StatusFunnel: []Stage{},
		StaleLeadsCount: s.Totals[Open][""] - s.Recent, FollowUpsDueToday: s.Due, LeadsWithoutContact: s.Totals[Uncontacted][""],
		AvgFollowUpCount: round(float64(s.Totals[FollowUps][""])/float64(max(total, 1)), 100),
		AgentStats:       s.agents(q, total, converted), TotalCallsToday: s.Days[CallsMade][days-1],
	}
	for _, status := range lead.Statuses() {
		o.LeadsByStatus[string(status)] = 0
	}
	present(o.LeadsByStatus, s.Totals[ByStatus])
	for _, intent := range lead.Intents() {
		o.LeadsByIntent[string(intent)] = 0
	}
	present(o.LeadsByIntent, s.Totals[ByIntent])
	for intent, n := range o.LeadsByIntent {
		if n != 0 {
			o.IntentDistribution = append(o.IntentDistribution, IntentCount{intent, n})
		}
	}
	slices.SortFunc(o.IntentDistribution, func(a, b IntentCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Intent, b.Intent))
	})
	s.campaigns(&o)
	for _, stage := range stages(o.LeadsByStatus) {
		o.StatusFunnel = append(o.StatusFunnel, Stage{stage, o.LeadsByStatus[stage], percent(o.LeadsByStatus[stage], total)})
	}
	for i, day := range q.Calendar.Days {
		date, iso := day.Format(shortDate), day.Format(isoDate)
		o.DailyStats = append(o.DailyStats, Day{date, iso, s.Days[NewLeads][i], s.Days[CallsMade][i], s.Days[Conversions][i]})
		o.SentimentByDay = append(o.SentimentByDay, SentimentDay{date, iso, s.Days[Positive][i], s.Days[Neutral][i], s.Days[Negative][i]})
	}
	return o
}

func (s *Snapshot) campaigns(o *Overview) {
	converted := map[string]int64{}
	for campaign, n := range s.Totals[ByCampaign] {
		if n != 0 {
			o.LeadsByCampaign[cmp.Or(campaign, noCampaign)] += n
		}
	}
	for campaign, n := range s.Totals[Converted] {
		converted[cmp.Or(campaign, noCampaign)] += n
	}
	for campaign, n := range o.LeadsByCampaign {
		o.CampaignBreakdown = append(o.CampaignBreakdown, Campaign{campaign, n, converted[campaign], percent(converted[campaign], n)})
	}
	slices.SortFunc(o.CampaignBreakdown, func(a, b Campaign) int {
		return cmp.Or(cmp.Compare(b.Leads, a.Leads), cmp.Compare(a.Campaign, b.Campaign))
	})
}

// agents returns the caller's own statistics, or those of every agent that has any.
func (s *Snapshot) agents(q Query, leads, converted int64) []AgentStats {
	all := []AgentStats{}
	add := func(id string, calls, leads, converted int64) {
		all = append(all, AgentStats{id, s.Names[id], calls, leads, converted, percent(converted, leads)})
	}
	if q.Scope != Team {
		add(q.Scope, s.Totals[Calls][""], leads, converted)
		return all
	}
	ids := map[string]bool{}
	for _, kind := range []Kind{LeadsOfAgent, CallsOfAgent} {
		for id, n := range s.Totals[kind] {
			ids[id] = ids[id] || n != 0
		}
	}
	for id, any := range ids {
		if any {
			add(id, s.Totals[CallsOfAgent][id], s.Totals[LeadsOfAgent][id], s.Totals[ConvertedsOfAgent][id])
		}
	}
	slices.SortFunc(all, func(a, b AgentStats) int {
		return cmp.Or(cmp.Compare(b.Conversions, a.Conversions), cmp.Compare(b.CallsMade, a.CallsMade), cmp.Compare(a.AgentID, b.AgentID))
	})
	return all
}

// stages returns the built-in statuses in the order of a sale, and then those of the team.
func stages(byStatus map[string]int64) (all []string) {
	for _, s := range lead.Statuses() {
		all = append(all, string(s))
	}
	for _, s := range slices.Sorted(maps.Keys(byStatus)) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// present adds the counts that are not zero.
func present(to, from map[string]int64) {
	for key, n := range from {
		if n != 0 {
			to[key] = n
		}
	}
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// percent returns the share with one decimal; 0 of nothing.
func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return round(100*float64(part)/float64(whole), 10)
}

func round(x, precision float64) float64 { return math.Round(x*precision) / precision }
