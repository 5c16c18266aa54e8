// Package analytics owns the counts that dashboards show: leads by status, intent and campaign, what happened on each day, and who
// did it. Every change of a lead or call is recorded as the difference that it makes (Delta) in its transaction, so that the counts
// are exact at all times and a read does not depend on how many leads there are. The package refuses to count events: they may
// arrive without those before them.
package analytics

import (
	"math"
	"time"

	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Slot is a quarter of an hour: the number of them since 1970, UTC. The days of every time zone in use begin with a slot.
type Slot int32

const (
	// NoSlot is the slot of something that has not happened.
	NoSlot Slot = math.MinInt32
	// SlotsPerDay is the number of slots of a day of UTC.
	SlotsPerDay = 96

	slotSeconds = 15 * 60
)

// SlotOf returns the slot of a time.
func SlotOf(t time.Time) Slot { return Slot(floorDiv(t.Unix(), slotSeconds)) }

// Day returns the day of UTC since 1970, and the slot in it.
func (s Slot) Day() (day int32, slot int) {
	day = int32(floorDiv(int64(s), SlotsPerDay))
	return day, int(int64(s) - int64(day)*SlotsPerDay)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func slotOf(t *time.Time) Slot {
	if t == nil {
		return NoSlot
	}
	return SlotOf(*t)
}

// Fact is what one lead or call adds to the counts. Two equal facts count the same.
type Fact struct {
	Lead    bool   // or a call
	AgentID string // empty for a lead of nobody

	// Of a lead.
	Status, Intent, Campaign string
	FollowUps                int32
	Contacted                bool
	Created, Converted       Slot
	Touched                  Slot // of an open lead: the last contact, or else its creation

	// Of a call.
	Called    Slot
	Sentiment string
}

// OfLead returns what a lead adds to the counts; nothing for nil.
func OfLead(l *lead.Lead) *Fact {
	if l == nil {
		return nil
	}
	f := Fact{
		Lead: true, AgentID: text.Of(l.AssignedAgentID), Status: string(l.Status), Intent: string(l.IntentCategory), Campaign: text.Of(l.SourceCampaign),
		FollowUps: int32(l.FollowUpCount), Contacted: l.LastContactedAt != nil,
		Created: SlotOf(l.CreatedAt), Converted: slotOf(l.ConvertedAt), Touched: NoSlot, Called: NoSlot,
	}
	if l.Status.Open() {
		f.Touched = f.Created
		if l.LastContactedAt != nil {
			f.Touched = SlotOf(*l.LastContactedAt)
		}
	}
	return &f
}

// OfCall returns what a call adds to the counts; nothing for nil or a deleted call.
func OfCall(c *followup.Call) *Fact {
	if c == nil || c.Deleted {
		return nil
	}
	return &Fact{AgentID: c.AgentID, Created: NoSlot, Converted: NoSlot, Touched: NoSlot, Called: slotOf(c.CalledAt), Sentiment: text.Of(c.Sentiment)}
}

// Delta is a fact that became true (Sign 1) or stopped being true (-1).
type Delta struct {
	Sign int16
	Fact
}

// Deltas returns what changed between two states of a lead or call. nil is one that does not exist.
func Deltas(before, after *Fact) (deltas []Delta) {
	if before != nil && after != nil && *before == *after {
		return nil
	}
	if before != nil {
		deltas = append(deltas, Delta{-1, *before})
	}
	if after != nil {
		deltas = append(deltas, Delta{1, *after})
	}
	return deltas
}

// Kind is a kind of total.
type Kind string

// The kinds of totals. Their keys are in brackets.
const (
	ByStatus          Kind = "status"            // leads [status]
	ByIntent          Kind = "intent"            // leads [intent]
	ByCampaign        Kind = "campaign"          // leads [campaign, or empty]
	Converted         Kind = "converted"         // converted leads [campaign, or empty]
	Open              Kind = "open"              // leads that are neither converted nor lost
	Uncontacted       Kind = "uncontacted"       // leads that were never contacted
	FollowUps         Kind = "followups"         // sum of followup_count of leads
	Calls             Kind = "calls"             // calls
	LeadsOfAgent      Kind = "agent_leads"       // of the team: leads [agent]
	ConvertedsOfAgent Kind = "agent_conversions" // of the team: converted leads [agent]
	CallsOfAgent      Kind = "agent_calls"       // of the team: calls [agent]
)

// Measure is what is counted per day.
type Measure string

// The measures.
const (
	NewLeads    Measure = "new_leads"
	Conversions Measure = "conversions"
	CallsMade   Measure = "calls"
	Positive    Measure = "positive" // calls with this sentiment
	Neutral     Measure = "neutral"
	Negative    Measure = "negative"
	Touched     Measure = "touched" // open leads by their last contact
)

// Daily returns the measures that the overview shows per day.
func Daily() []Measure {
	return []Measure{NewLeads, Conversions, CallsMade, Positive, Neutral, Negative}
}

// totals calls add for each total that the fact counts in, for the agent and for the team alike.
func (f Fact) totals(add func(kind Kind, key string, n int64)) {
	if !f.Lead {
		add(Calls, "", 1)
		return
	}
	add(ByStatus, f.Status, 1)
	add(ByIntent, f.Intent, 1)
	add(ByCampaign, f.Campaign, 1)
	if f.converted() {
		add(Converted, f.Campaign, 1)
	}
	if f.Touched != NoSlot {
		add(Open, "", 1)
	}
	if !f.Contacted {
		add(Uncontacted, "", 1)
	}
	if f.FollowUps != 0 {
		add(FollowUps, "", int64(f.FollowUps))
	}
}

// ofTeam calls add for each total that only the team has.
func (f Fact) ofTeam(add func(kind Kind, key string, n int64)) {
	switch {
	case f.AgentID == "":
	case !f.Lead:
		add(CallsOfAgent, f.AgentID, 1)
	default:
		add(LeadsOfAgent, f.AgentID, 1)
		if f.converted() {
			add(ConvertedsOfAgent, f.AgentID, 1)
		}
	}
}

func (f Fact) converted() bool { return f.Status == string(lead.Converted) }

// days calls add for each slot that the fact counts in.
func (f Fact) days(add func(m Measure, s Slot)) {
	if f.Created != NoSlot {
		add(NewLeads, f.Created)
	}
	if f.Converted != NoSlot {
		add(Conversions, f.Converted)
	}
	if f.Touched != NoSlot {
		add(Touched, f.Touched)
	}
	if f.Called == NoSlot {
		return
	}
	add(CallsMade, f.Called)
	if m := Measure(f.Sentiment); m == Positive || m == Neutral || m == Negative {
		add(m, f.Called)
	}
}
