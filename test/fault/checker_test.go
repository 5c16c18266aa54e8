package fault

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// violation is a broken invariant, by its number in the project's quality targets.
type violation struct {
	Invariant string // I1 to I8
	What      string
}

func (v violation) String() string { return v.Invariant + ": " + v.What }

// check judges a snapshot. It is pure: the same snapshot gives the same violations.
func check(s snapshot) []violation {
	c := &checker{s: s, times: map[string]int{}}
	c.writes()
	c.events()
	c.order()
	c.calls()
	c.deliveries()
	c.counts()
	c.files()
	c.answers()
	return c.found
}

type checker struct {
	s     snapshot
	found []violation
	times map[string]int // by kind of violation
}

// maxFound limits the violations of one kind: a thousand lost events are one thing to read.
const maxFound = 4

func (c *checker) fail(invariant, format string, args ...any) {
	if c.times[format]++; c.times[format] <= maxFound {
		c.found = append(c.found, violation{invariant, fmt.Sprintf(format, args...)})
	}
}

// writes is I1: every acknowledged write is there; one whose answer was lost is there once or not at all, never twice.
func (c *checker) writes() {
	marks := map[operation]map[string][]string{createClient: {}, upload: {}, createFollowUp: {}, createLead: {}} // ids by mark
	for _, r := range c.s.Clients {
		marks[createClient][r.Name] = append(marks[createClient][r.Name], r.ID)
	}
	for _, r := range c.s.Calls {
		name := strings.TrimSuffix(r.Filename, ".wav")
		marks[upload][name] = append(marks[upload][name], r.ID)
	}
	for _, r := range c.s.FollowUps {
		marks[createFollowUp][r.Task] = append(marks[createFollowUp][r.Task], r.ID)
	}
	for _, r := range c.s.Leads {
		marks[createLead][r.Name] = append(marks[createLead][r.Name], r.ID)
	}
	marks[receiveLead] = marks[createLead]
	for _, e := range c.s.Ledger {
		if e.Mark == "" || e.Operation == changeClient || e.Operation == changeLead {
			continue
		}
		if e.Operation == abortUpload {
			if ids := marks[upload][e.Mark]; len(ids) > 0 {
				c.fail("I1", "half of an upload became a call: %v", ids)
			}
			continue
		}
		ids := marks[e.Operation][e.Mark]
		switch {
		case len(ids) > 1:
			c.fail("I1", "%s (request %d) is there %d times: %v", e.Operation, e.Number, len(ids), ids)
		case e.answered() && (len(ids) == 0 || ids[0] != e.ID):
			c.fail("I1", "%s (request %d) was acknowledged as %s and is there as %v", e.Operation, e.Number, e.ID, ids)
		}
	}
	c.changes()
}

// changes is I1 of updates: the last acknowledged one holds, or a later one whose answer was lost.
func (c *checker) changes() {
	notes, statuses := map[string]string{}, map[string]string{}
	for _, r := range c.s.Clients {
		notes[r.ID] = r.Notes
	}
	for _, r := range c.s.Leads {
		notes[r.ID] = r.Notes
	}
	for _, r := range c.s.FollowUps {
		statuses[r.ID] = r.Status
	}
	wanted := map[string][]string{} // what the notes of a client or lead may be
	for _, e := range c.s.Ledger {
		noted := e.Operation == changeClient || e.Operation == changeLead
		switch {
		case noted && e.answered():
			wanted[e.Target] = []string{e.Mark}
		case noted && !e.refused():
			if wanted[e.Target] == nil {
				wanted[e.Target] = []string{""}
			}
			wanted[e.Target] = append(wanted[e.Target], e.Mark)
		case e.Operation == completeTask && e.answered() && statuses[e.Target] != "completed":
			c.fail("I1", "follow-up %s was completed (request %d) and is %q", e.Target, e.Number, statuses[e.Target])
		}
	}
	for id, may := range wanted {
		if !slices.Contains(may, notes[id]) {
			c.fail("I1", "the notes of %s are %q and must be one of %q", id, notes[id], may)
		}
	}
}

// events is I2: every event is published at least once, and its effect is there exactly once. Nothing is published that did not
// commit.
func (c *checker) events() {
	for _, open := range c.s.Settled {
		c.fail("I2", "after the quiet: %s", open)
	}
	published, known := map[string]bool{}, map[string]bool{}
	for _, m := range c.s.Published {
		published[m.ID] = true
	}
	seen := map[string]map[string]bool{} // ids that each service has handled
	transactions := map[string]map[int64]bool{}
	for _, h := range c.s.Handled {
		if seen[h.Service] == nil {
			seen[h.Service], transactions[h.Service] = map[string]bool{}, map[int64]bool{}
		}
		if seen[h.Service][h.ID] {
			c.fail("I2", "%s has recorded event %s twice", h.Service, h.ID)
		}
		seen[h.Service][h.ID], transactions[h.Service][h.Tx] = true, true
	}
	for _, e := range c.s.Committed {
		known[e.ID] = true
		if !published[e.ID] {
			c.fail("I2", "%s %s of %s was committed and never published", e.Type, e.ID, e.Key)
		}
		for _, service := range slices.Sorted(maps.Keys(subscriptions)) {
			if slices.Contains(subscriptions[service], e.Type) && !seen[service][e.ID] {
				c.fail("I2", "%s has not handled %s %s of %s", service, e.Type, e.ID, e.Key)
			}
		}
	}
	for _, m := range c.s.Published {
		if !known[m.ID] {
			c.fail("I2", "%s %s of %s was published and never committed", m.Type, m.ID, m.Key)
		}
	}
	times := map[effect]int{}
	for _, e := range c.s.Effects {
		service, _, _ := strings.Cut(e.Table, ".")
		if !transactions[service][e.Tx] {
			c.fail("I2", "%s was written for %s version %d without a record of the event", e.Table, e.ID, e.Version)
		}
		e.Tx = 0
		if times[e]++; times[e] == 2 {
			c.fail("I2", "the effect on %s of %s version %d was applied more than once", e.Table, e.ID, e.Version)
		}
	}
}

// order is I3: per aggregate, events are published and handled with strictly increasing versions, and every copy equals its
// source.
func (c *checker) order() {
	first, last := map[string]bool{}, map[string]int64{}
	for _, m := range c.s.Published {
		if m.Version == 0 || first[m.ID] {
			continue // without a version, or a duplicate
		}
		first[m.ID] = true
		key := m.Topic + " " + m.Key
		if m.Version <= last[key] {
			c.fail("I3", "%s of %s: version %d was published after %d", m.Type, m.Key, m.Version, last[key])
		}
		last[key] = m.Version
	}
	applied := map[string]int64{}
	for _, e := range c.s.Effects {
		if e.Version == 0 {
			continue
		}
		if key := e.Table + " " + e.ID; e.Version < applied[key] {
			c.fail("I3", "%s: version %d of %s was handled after %d", e.Table, e.Version, e.ID, applied[key])
		} else {
			applied[key] = e.Version
		}
	}
	newest := map[string]int64{} // by table and id
	for _, e := range c.s.Committed {
		for table, prefixes := range copies {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Type, p) }) {
				key := table + " " + e.Key
				newest[key] = max(newest[key], e.Version)
			}
		}
	}
	have := map[string]int64{}
	for _, r := range c.s.Copies {
		have[r.Table+" "+r.ID] = r.Version
	}
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		if have[key] != newest[key] {
			c.fail("I3", "the copy %s has version %d and its source %d", key, have[key], newest[key])
		}
	}
}

// paths are the changes of status that a call may make.
var paths = map[string][]string{"": {"pending"}, "pending": {"transcribing"}, "transcribing": {"completed", "failed"}}

// calls is I4: each call's history is a path from pending to its end, with one transcript and one bill.
func (c *checker) calls() {
	for _, s := range c.s.Statuses {
		if !slices.Contains(paths[s.Was], s.Became) {
			c.fail("I4", "call %s went from %q to %q", s.Call, s.Was, s.Became)
		}
	}
	ends := map[string]int{}
	for _, e := range c.s.Committed {
		if e.Type == "transcription.completed" || e.Type == "transcription.failed" {
			ends[e.Key]++
		}
	}
	for _, r := range c.s.Calls {
		switch {
		case r.Status != "completed" && r.Status != "failed":
			c.fail("I4", "call %s is still %s", r.ID, r.Status)
		case ends[r.ID] != 1:
			c.fail("I4", "call %s ended %d times", r.ID, ends[r.ID])
		case r.Status == "completed" && r.Transcripts != 1:
			c.fail("I4", "call %s is completed and has %d transcripts", r.ID, r.Transcripts)
		case r.Status == "failed" && r.Code == "":
			c.fail("I4", "call %s failed without a code", r.ID)
		}
	}
	if c.s.Bills > c.s.transcripts()+c.s.Lost+c.s.Kills {
		c.fail("I4", "the provider was asked for transcriptions %d times, and %d are stored; %d were lost before, and at most %d workers were interrupted", c.s.Bills, c.s.transcripts(), c.s.Lost, c.s.Kills)
	}
}

// webhooks are the types of events that become webhooks.
var webhooks = []string{"transcription.completed", "followup.scheduled", "followup.due", "followup.completed", "lead.interested"}

// deliveries is I5: each event that matches an endpoint was delivered, or waits or is dead with a reason; its attempts have one
// event_id and right signatures.
func (c *checker) deliveries() {
	of, endpoints := map[string]deliveryRow{}, map[string]bool{}
	for _, d := range c.s.Deliveries {
		key := d.EventID + " " + d.EndpointID
		if _, twice := of[key]; twice {
			c.fail("I5", "event %s has two deliveries to an endpoint", d.EventID)
		}
		of[key], endpoints[d.EndpointID] = d, true
		if d.Status != "delivered" && d.Reason == "" {
			c.fail("I5", "the delivery of %s %s is %s without a reason", d.Event, d.EventID, d.Status)
		}
	}
	if c.s.Missing > 0 { // the reconciliation, convoflow_notify_missing_deliveries
		c.fail("I5", "%d events that an endpoint was to get have no delivery that has ended or will be attempted", c.s.Missing)
	}
	sent, hooks := map[string]int{}, map[string]string{}
	for _, w := range c.s.Webhooks {
		sent[w.EventID]++
		if len(w.Problems) > 0 {
			c.fail("I5", "a webhook of %s %s: %s", w.Event, w.EventID, strings.Join(w.Problems, "; "))
		}
		if first, seen := hooks[w.EventID]; seen && first != w.WebhookID {
			c.fail("I5", "the attempts of event %s have the ids %s and %s", w.EventID, first, w.WebhookID)
		}
		hooks[w.EventID] = w.WebhookID
	}
	for _, e := range c.s.Committed {
		if !slices.Contains(webhooks, e.Type) {
			continue
		}
		matched := false
		for endpoint := range endpoints {
			d, ok := of[e.ID+" "+endpoint]
			matched = matched || ok
			if ok && d.Status == "delivered" && sent[e.ID] == 0 {
				c.fail("I5", "%s %s is delivered and was never received", e.Type, e.ID)
			}
		}
		if !matched {
			c.fail("I5", "%s %s has no delivery", e.Type, e.ID)
		}
	}
}

// files is I7: recordings on disk and rows match, and no temporary files stay. Where the outcome of a commit is unknown, the file
// stays for the sweep to decide, because the call may exist.
func (c *checker) files() {
	keys := map[string]string{}
	for _, r := range c.s.Calls {
		keys[r.Key] = r.ID
	}
	there := map[string]bool{}
	var orphans []string
	for _, f := range c.s.Files {
		there[f] = true
		if keys[f] == "" {
			orphans = append(orphans, f)
		}
	}
	if len(orphans) > c.s.Unknown {
		c.fail("I7", "%d files belong to no call, after %d commits without an answer: %v", len(orphans), c.s.Unknown, orphans)
	}
	for key, id := range keys {
		if !there[key] {
			c.fail("I7", "the recording of call %s is gone", id)
		}
	}
}

// answers is I8: clients see only their normal answers, or 503 and 504 with Retry-After; never a 500, never a hang.
func (c *checker) answers() {
	for _, e := range c.s.Ledger {
		switch {
		case e.Operation == abortUpload, e.answered():
		case e.Status == 503 || e.Status == 504 || e.Status == 502:
			if !e.Retry {
				c.fail("I8", "%s (request %d) got %d %s without Retry-After", e.Operation, e.Number, e.Status, e.Code)
			}
			if e.Status == 502 {
				c.fail("I8", "%s (request %d) got 502 %s", e.Operation, e.Number, e.Code)
			}
		case e.Status > 0:
			c.fail("I8", "%s (request %d) of %s got %d %s", e.Operation, e.Number, e.Target, e.Status, e.Code)
		case e.Took >= requestTimeout:
			c.fail("I8", "%s (request %d) hung for %s", e.Operation, e.Number, e.Took)
		}
		// Without an answer within its time, the gateway that held the connection was killed.
	}
}
