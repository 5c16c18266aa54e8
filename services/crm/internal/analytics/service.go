package analytics

import (
	"cmp"
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// staleDays is after how many days without a contact an open lead is stale.
const staleDays = 7

// defaultDays is how many days are shown.
const defaultDays = 30

// Store reads the counts. Everything of a Snapshot is of one moment.
type Store interface {
	Read(ctx context.Context, q Query) (Snapshot, error)
	// Leaderboard returns all agents of the scope with what they did from one time to another.
	Leaderboard(ctx context.Context, scope string, from, to time.Time) ([]Ranking, error)
	// Mentions counts what was said in calls of the scope, per topic or objection and day, the most frequent ones only.
	Mentions(ctx context.Context, scope string, days []time.Time) (topics, objections []Mention, err error)
}

// Service implements the operations of analytics.
type Service struct {
	Store Store
	Zone  func(ctx context.Context) (*time.Location, error) // of the team, for days of no other zone
	Clock clock.Clock
}

// Request is the query of each operation.
type Request struct {
	Scope string `query:"scope"` // me or team; by default what the caller may see
	Days  int    `query:"days"`
	TZ    string `query:"tz"` // IANA name of the time zone of the days; by default that of the team
}

// query returns the scope of a request, and its days.
func (s *Service) query(ctx context.Context, req Request) (Query, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Query{}, err
	}
	q := Query{Scope: caller.AgentID}
	switch {
	case req.Scope == "team" && !caller.IsAdmin():
		return Query{}, fault.New(fault.Forbidden, "admin_only", "Only an admin may do this")
	case req.Scope == "team", req.Scope == "" && caller.IsAdmin():
		q.Scope = Team
	}
	loc, err := s.zone(ctx, req.TZ)
	if err != nil {
		return Query{}, err
	}
	q.Calendar = newCalendar(s.Clock.Now(), loc, cmp.Or(req.Days, defaultDays))
	year, month, day := q.Calendar.Now.In(loc).Date()
	q.Stale = startOf(year, month, day-staleDays, loc)
	return q, nil
}

func (s *Service) zone(ctx context.Context, name string) (*time.Location, error) {
	if name == "" {
		return s.Zone(ctx)
	}
	return zone(name)
}

// Refuse fails with the parameters that every operation refuses.
func (s *Service) Refuse(ctx context.Context, req Request) error {
	_, err := s.zone(ctx, req.TZ)
	return err
}

// Overview returns the dashboard of the caller, or of the team for an admin. It fails with admin_only.
func (s *Service) Overview(ctx context.Context, req Request) (Overview, error) {
	q, err := s.query(ctx, req)
	if err != nil {
		return Overview{}, err
	}
	snapshot, err := s.Store.Read(ctx, q)
	if err != nil {
		return Overview{}, err
	}
	return snapshot.overview(q), nil
}

// Ranking is what an agent did in the days that were asked for. Talk is zero where the calls have no such statistics.
type Ranking struct {
	AgentID         string  `json:"agent_id"`
	AgentName       string  `json:"agent_name"`
	CallsMade       int64   `json:"calls_made"`
	TalkSeconds     int64   `json:"talk_seconds"`     // sum of the calls' durations
	AverageDuration float64 `json:"average_duration"` // seconds
	Positive        int64   `json:"positive"`         // calls with this sentiment
	Neutral         int64   `json:"neutral"`
	Negative        int64   `json:"negative"`
	LeadsAssigned   int64   `json:"leads_assigned"` // now
	Conversions     int64   `json:"conversions"`
	Talk            Talk    `json:"talk"`
}

// Talk is averages over the calls that have such statistics.
type Talk struct {
	Calls            int64   `json:"calls"`
	AgentRatio       float64 `json:"agent_ratio"`       // 0 to 1
	LongestMonologue float64 `json:"longest_monologue"` // seconds
	Questions        float64 `json:"questions"`
	WordsPerMinute   float64 `json:"words_per_minute"`
	Silence          float64 `json:"silence"`
	Turns            float64 `json:"turns"`
}

// Leaderboard is a period and its agents, most conversions first.
type Leaderboard struct {
	Days   int       `json:"days"`
	Agents []Ranking `json:"agents"`
}

// Agents returns what each agent did. An agent sees only itself.
func (s *Service) Agents(ctx context.Context, req Request) (Leaderboard, error) {
	q, err := s.query(ctx, req)
	if err != nil {
		return Leaderboard{}, err
	}
	starts := q.Calendar.Starts
	agents, err := s.Store.Leaderboard(ctx, q.Scope, starts[0].Time(), starts[len(starts)-1].Time())
	if err != nil {
		return Leaderboard{}, err
	}
	board := Leaderboard{Days: len(q.Calendar.Days), Agents: []Ranking{}}
	for _, r := range agents {
		for _, x := range []*float64{&r.AverageDuration, &r.Talk.LongestMonologue, &r.Talk.Questions, &r.Talk.WordsPerMinute, &r.Talk.Silence, &r.Talk.Turns} {
			*x = round(*x, 10)
		}
		r.Talk.AgentRatio = round(r.Talk.AgentRatio, 1000)
		board.Agents = append(board.Agents, r)
	}
	return board, nil
}

// Mention is how often something was said on a day.
type Mention struct {
	Text  string
	Index int // of the day
	Count int64
}

// Topics is what was said in calls.
type Topics struct {
	Days       []string `json:"days"` // "2026-01-02", oldest first
	Topics     []Topic  `json:"topics"`
	Objections []Topic  `json:"objections"`
}

// Topic is in how many calls something was said.
type Topic struct {
	Topic  string  `json:"topic"`
	Count  int64   `json:"count"`
	PerDay []int64 `json:"per_day"` // one number for each of the days
}

// Topics returns the most frequent topics and objections of calls, and on which days they were said.
func (s *Service) Topics(ctx context.Context, req Request) (Topics, error) {
	q, err := s.query(ctx, req)
	if err != nil {
		return Topics{}, err
	}
	starts := make([]time.Time, len(q.Calendar.Starts))
	for i, slot := range q.Calendar.Starts {
		starts[i] = slot.Time()
	}
	topics, objections, err := s.Store.Mentions(ctx, q.Scope, starts)
	if err != nil {
		return Topics{}, err
	}
	t := Topics{Days: []string{}, Topics: perDay(topics, len(q.Calendar.Days)), Objections: perDay(objections, len(q.Calendar.Days))}
	for _, day := range q.Calendar.Days {
		t.Days = append(t.Days, day.Format(isoDate))
	}
	return t, nil
}

// perDay groups mentions, which are ordered by their text's total.
func perDay(mentions []Mention, days int) []Topic {
	topics := []Topic{}
	at := map[string]int{}
	for _, m := range mentions {
		i, ok := at[m.Text]
		if !ok {
			i = len(topics)
			at[m.Text] = i
			topics = append(topics, Topic{Topic: m.Text, PerDay: make([]int64, days)})
		}
		topics[i].Count += m.Count
		topics[i].PerDay[m.Index] += m.Count
	}
	return topics
}
