// Package seed makes up the data of a sales team, for measurements and for trying the platform: agents, leads, calls and follow-ups
// that look real. The same seed makes the same rows. Their ids begin with 5eed, so that they can be found again. It refuses to make
// anything about a person who exists.
package seed

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// days is how many days the data is of.
const days = 180

// MaxLeads is how many leads have a phone number of their own.
const MaxLeads = 10_000_000

// Team makes rows. Number n of a kind is always the same row.
type Team struct {
	Seed          int64
	Agents, Leads int
	Now           time.Time // the newest row is not later
}

// The kinds of rows, which are part of their ids.
const (
	agentKind = iota + 1
	leadKind
	callKind
	followUpKind
)

func (t Team) id(kind, n int) string {
	return fmt.Sprintf("5eed%04x-%04x-8000-8000-%012x", uint16(t.Seed), kind, n)
}

func (t Team) random(kind, n int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(t.Seed), uint64(kind)<<48|uint64(n)))
}

var (
	firstNames = []string{"Aarav", "Aditi", "Ananya", "Arjun", "Asha", "Deepak", "Divya", "Farhan", "Gauri", "Imran", "Ishaan", "Kavya", "Kiran", "Lakshmi", "Manish", "Meera", "Neha", "Nikhil", "Pooja", "Priya", "Rahul", "Ravi", "Riya", "Rohan", "Sana", "Shreya", "Sunita", "Tara", "Varun", "Vikram", "Yash", "Zoya"}
	lastNames  = []string{"Agarwal", "Bhat", "Chopra", "Das", "Desai", "Fernandes", "Ghosh", "Gupta", "Iyer", "Jain", "Joshi", "Kapoor", "Khan", "Kulkarni", "Kumar", "Mehta", "Menon", "Mishra", "Nair", "Pandey", "Patel", "Pillai", "Rao", "Reddy", "Shah", "Sharma", "Shetty", "Singh", "Thomas", "Verma"}
	campaigns  = []string{"Diwali Offer", "Google Search", "Instagram Reels", "Webinar March", "Referral", "Facebook Leads", "Career Fair Pune", "YouTube", "Summer Batch", "Alumni", "Partner: EduHub", "Walk-in"}
	courses    = []string{"Data Science", "Full-Stack Development", "Digital Marketing", "UX Design", "Cloud Engineering", "Business Analytics"}
	cities     = []string{"Pune", "Mumbai", "Bengaluru", "Hyderabad", "Delhi", "Chennai", "Kolkata", "Jaipur", "Indore", "Kochi"}
	topics     = []string{"price", "placement", "schedule", "curriculum", "discount", "instalments", "certificate", "demo class", "mentors", "refund", "online or campus", "start date"}
	objections = []string{"too expensive", "no time", "has to ask the family", "compares with another institute", "unsure about placement", "wants a later batch"}
	tasks      = []string{"Send the brochure", "Call back", "Send the payment link", "Share the curriculum", "Arrange a demo class", "Confirm the batch"}
)

// pick prefers the first values: each is about three quarters as frequent as the one before.
func pick(r *rand.Rand, values []string) string {
	for i := range values {
		if r.IntN(4) == 0 {
			return values[i]
		}
	}
	return values[r.IntN(len(values))]
}

// anyOf returns each value with the same probability.
func anyOf[T any](r *rand.Rand, values []T) T { return values[r.IntN(len(values))] }

func name(r *rand.Rand) string { return anyOf(r, firstNames) + " " + anyOf(r, lastNames) }

// outcomes are how far leads have come, per mille.
var outcomes = []struct {
	share  int
	status lead.Status
	intent []lead.Intent
}{
	{280, lead.New, []lead.Intent{lead.IntentNew}},
	{220, lead.Contacted, []lead.Intent{lead.NoAnswer, lead.NoAnswer, lead.Undecided}},
	{150, lead.InProgress, []lead.Intent{lead.CallbackRequested, lead.Undecided}},
	{90, lead.Qualified, []lead.Intent{lead.Interested, lead.PaymentPending}},
	{30, lead.PaymentSent, []lead.Intent{lead.PaymentPending}},
	{70, lead.Converted, []lead.Intent{lead.IntentConverted}},
	{120, lead.Lost, []lead.Intent{lead.NotInterested, lead.NotInterested, lead.WrongNumber}},
	{40, lead.Deferred, []lead.Intent{lead.FuturePlanning}},
}

// Agent returns an agent.
func (t Team) Agent(n int) agent.Agent {
	return agent.Agent{ID: t.id(agentKind, n), Version: 1, Name: name(t.random(agentKind, n)), Email: fmt.Sprintf("agent%d.seed%d@example.com", n, t.Seed), Active: true}
}

// Lead returns a lead.
func (t Team) Lead(n int) lead.Lead {
	r := t.random(leadKind, n)
	created := t.moment(r, days*24*time.Hour)
	phone := fmt.Sprintf("+91%d", 6_000_000_000+(t.Seed%100)*MaxLeads+int64(n))
	who := name(r)
	l := lead.Lead{ID: t.id(leadKind, n), Phone: &phone, Version: 1, CreatedAt: created, UpdatedAt: created}
	l.Name, l.Email = who, new(fmt.Sprintf("lead%d.seed%d@example.com", n, t.Seed))
	if t.Agents > 0 && r.IntN(20) > 0 { // agents are not equally busy
		l.AssignedAgentID = new(t.id(agentKind, min(r.IntN(t.Agents), r.IntN(t.Agents)+t.Agents/4)))
	}
	if r.IntN(12) > 0 {
		l.SourceCampaign = new(pick(r, campaigns))
	}
	l.CourseInterestedIn = new(pick(r, courses))
	city, _ := json.Marshal(pick(r, cities))
	l.ExtraData = lead.Extra{"city": city, "seed": json.RawMessage("true")}
	share := r.IntN(1000)
	for _, o := range outcomes {
		if share -= o.share; share < 0 {
			l.Status, l.IntentCategory = o.status, anyOf(r, o.intent)
			break
		}
	}
	if l.Status == lead.New {
		return l
	}
	l.FollowUpCount = 1 + r.IntN(5)
	contacted := t.later(r, created, 10*24*time.Hour)
	l.LastContactedAt, l.UpdatedAt, l.Version = &contacted, contacted, int64(1+l.FollowUpCount)
	l.InterestLevel = new(anyOf(r, []string{"high", "medium", "low"}))
	l.IntentConfidence = new(float64(50+r.IntN(50)) / 100)
	switch l.Status {
	case lead.Converted:
		l.ConvertedAt, l.PaymentLinkSent = &contacted, true
	case lead.InProgress, lead.Deferred:
		l.NextFollowUpAt = new(t.Now.Add(time.Duration(r.IntN(21*24)-7*24) * time.Hour))
		if l.IntentCategory == lead.CallbackRequested {
			l.CallbackScheduledAt = l.NextFollowUpAt
		}
	case lead.Lost:
		l.Objections = new(pick(r, objections))
	default: // nothing more is known
	}
	return l
}

// Call returns a call with a lead that has an agent, so that some numbers have none: then ok is false.
func (t Team) Call(n int) (c followup.Call, ok bool) {
	r := t.random(callKind, n)
	if t.Leads == 0 {
		return c, false
	}
	l := t.Lead(r.IntN(t.Leads))
	if l.AssignedAgentID == nil {
		return c, false
	}
	called := t.later(r, l.CreatedAt, 20*24*time.Hour)
	c = followup.Call{ID: t.id(callKind, n), Version: 3, AgentID: *l.AssignedAgentID, LeadID: &l.ID, Status: "completed"}
	c.CalledAt, c.DurationSeconds = &called, new(float64(20+r.ExpFloat64()*240))
	c.Sentiment = new(anyOf(r, []string{"positive", "positive", "neutral", "neutral", "negative"}))
	for range 1 + r.IntN(3) {
		c.KeyTopics = append(c.KeyTopics, pick(r, topics))
	}
	if r.IntN(3) == 0 {
		c.Objections = append(c.Objections, pick(r, objections))
	}
	ratio := 0.3 + r.Float64()*0.5
	c.Talk = &events.Talk{
		AgentRatio: ratio, LongestMonologue: 5 + r.Float64()*60, Questions: r.IntN(15), WordsPerMinute: 110 + r.Float64()*70,
		Silence: r.Float64() * 30, Turns: 4 + r.IntN(60),
	}
	return c, true
}

// FollowUp returns a follow-up of a call; ok is false if there is no such call.
func (t Team) FollowUp(n, call int) (x followup.FollowUp, ok bool) {
	c, ok := t.Call(call)
	if !ok {
		return x, false
	}
	r := t.random(followUpKind, n)
	due := c.CalledAt.Add(time.Duration(1+r.IntN(14*24)) * time.Hour)
	x = followup.FollowUp{
		ID: t.id(followUpKind, n), CallID: c.ID, LeadID: c.LeadID, AgentID: c.AgentID, DueDate: &due, Task: new(pick(r, tasks)),
		Status: followup.Pending, Source: followup.ByAgent, Version: 1, CreatedAt: *c.CalledAt, UpdatedAt: *c.CalledAt,
	}
	if due.Before(t.Now) && r.IntN(10) > 0 {
		x.Status, x.CompletedAt, x.UpdatedAt, x.Version = followup.Completed, &due, due, 2
	}
	return x, true
}

// moment returns a time within d before now, in the working hours of India on most days.
func (t Team) moment(r *rand.Rand, d time.Duration) time.Time {
	day := t.Now.Add(-time.Duration(r.Int64N(int64(d)))).Truncate(24 * time.Hour)
	if day.Weekday() == time.Sunday && r.IntN(4) > 0 {
		day = day.AddDate(0, 0, -1-r.IntN(6))
	}
	at := day.Add(3*time.Hour + time.Duration(r.Int64N(int64(13*time.Hour)))).Truncate(time.Microsecond) // 08:30 to 21:30 in India
	if at.After(t.Now) {
		at = at.AddDate(0, 0, -1)
	}
	return at
}

// later returns a time within d after from and not after now, more often soon.
func (t Team) later(r *rand.Rand, from time.Time, d time.Duration) time.Time {
	d = min(d, t.Now.Sub(from))
	if d <= 0 {
		return from
	}
	x := r.Float64()
	return from.Add(time.Duration(x * x * float64(d))).Truncate(time.Microsecond)
}
