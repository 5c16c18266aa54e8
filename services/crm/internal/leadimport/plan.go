package leadimport

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// rounds is how often rows are tried whose phone numbers other transactions take meanwhile.
const rounds = 4

// batch is the rows of one transaction.
type batch struct {
	*Processor
	of      *Import
	now     time.Time
	rows    []Staged
	touched map[string]*Touched
	order   []string          // of touched
	claimed map[string]string // lead ids by the phone numbers that rows give to leads
	agents  map[string]bool   // whether agents that rows name work
}

// apply imports rows and sets their results.
func (p *Processor) apply(ctx context.Context, of *Import, rows []Staged) ([]Touched, error) {
	b := &batch{Processor: p, of: of, now: p.Clock.Now(), rows: rows, touched: map[string]*Touched{}, claimed: map[string]string{}, agents: map[string]bool{}}
	waiting := make([]*Staged, 0, len(rows))
	for i := range rows {
		if row := &rows[i]; row.Data.empty() {
			row.done(Skipped, "the lead was deleted while the row waited", nil)
		} else {
			waiting = append(waiting, row)
		}
	}
	unknown := map[string]bool{} // ids of rows that are no lead
	for range rounds {
		if len(waiting) == 0 {
			break
		}
		byPhone, err := p.Leads.FindByPhones(ctx, phonesOf(waiting))
		if err != nil {
			return nil, err
		}
		if err := b.change(ctx, waiting, byPhone, unknown); err != nil {
			return nil, err
		}
		if err := b.create(ctx, left(waiting), byPhone, unknown); err != nil {
			return nil, err
		}
		waiting = left(waiting)
	}
	for _, row := range waiting {
		row.done(Skipped, "its phone number changes its lead all the time", nil)
	}
	var touched []Touched
	for _, id := range b.order {
		touched = append(touched, *b.touched[id])
	}
	for i := range rows {
		of.count(rows[i].Result)
	}
	return touched, nil
}

func left(rows []*Staged) (waiting []*Staged) {
	for _, row := range rows {
		if row.Result == "" {
			waiting = append(waiting, row)
		}
	}
	return waiting
}

func phonesOf(rows []*Staged) (phones []string) {
	seen := map[string]bool{}
	for _, row := range rows {
		if p := row.Data.Phone; p != nil && !seen[*p] {
			seen[*p] = true
			phones = append(phones, *p)
		}
	}
	return phones
}

// change applies the rows that are about leads that exist.
func (b *batch) change(ctx context.Context, rows []*Staged, byPhone map[string]lead.Owned, unknown map[string]bool) error {
	about, ids := map[string][]*Staged{}, []string(nil)
	for _, row := range rows {
		id := ""
		if row.Data.LeadID != "" && !unknown[row.Data.LeadID] {
			id = row.Data.LeadID
		} else if row.Data.Phone != nil {
			id = byPhone[*row.Data.Phone].LeadID
		}
		if id == "" {
			continue
		}
		if about[id] == nil {
			ids = append(ids, id)
		}
		about[id] = append(about[id], row)
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := b.Leads.ChangeAll(ctx, ids, func(l *lead.Lead) (lead.Outcome, []event.Event, error) {
		return b.rowsOfLead(ctx, l, about[l.ID], byPhone)
	})
	if err != nil {
		return fmt.Errorf("change the leads of an import: %w", err)
	}
	for _, id := range found {
		delete(about, id)
	}
	for _, rows := range about {
		for _, row := range rows {
			unknown[row.Data.LeadID] = row.Data.LeadID != ""
		}
	}
	return nil
}

// rowsOfLead applies the rows about one lead, which is locked.
func (b *batch) rowsOfLead(ctx context.Context, l *lead.Lead, rows []*Staged, byPhone map[string]lead.Owned) (lead.Outcome, []event.Event, error) {
	if err := l.CheckAccess(b.of.caller()); err != nil {
		for _, row := range rows {
			row.done(Skipped, "it is another agent's lead", nil)
		}
		return lead.Unchanged, nil, nil
	}
	was := *l
	before, err := json.Marshal(l.Snapshot())
	if err != nil {
		return lead.Unchanged, nil, fmt.Errorf("marshal a lead: %w", err)
	}
	var events []event.Event
	id := l.ID
	for _, row := range rows {
		var changed event.Event
		var ok bool
		switch named := row.Data.LeadID == l.ID; {
		case named:
			reason, err := b.refused(ctx, l, row, byPhone)
			if err != nil {
				return lead.Unchanged, nil, err
			}
			if reason != "" {
				row.done(Skipped, reason, &id)
				continue
			}
			if changed, ok = l.Overwrite(row.Data.Incoming, b.now); ok {
				row.done(Updated, "", &id)
			} else {
				row.done(Skipped, "nothing has changed", &id)
			}
		case l.Phone == nil || row.Data.Phone == nil || *l.Phone != *row.Data.Phone:
			continue // its number has changed since it was found: the next round
		default:
			if changed, ok = l.Merge(row.Data.Incoming, b.now); ok {
				row.done(Merged, "a lead with this phone number exists", &id)
			} else {
				row.done(Merged, "a lead with this phone number has all of it", &id)
			}
		}
		if ok {
			events = []event.Event{changed} // the last one has the whole state
		}
	}
	if len(events) == 0 || b.of.DryRun || l.Equals(was) { // one row may take back what another did
		return lead.Unchanged, nil, nil
	}
	b.touch(id, rows[0].Line, l.Version, before)
	return lead.Saved, events, nil
}

// refused returns why a row may not overwrite its lead, or "".
func (b *batch) refused(ctx context.Context, l *lead.Lead, row *Staged, byPhone map[string]lead.Owned) (string, error) {
	if phone := row.Data.Phone; phone != nil {
		owner := byPhone[*phone].LeadID
		if claimed := b.claimed[*phone]; claimed != "" {
			owner = claimed
		}
		if owner != "" && owner != l.ID {
			return "another lead has this phone number", nil
		}
		b.claimed[*phone] = l.ID
	}
	return b.wrong(ctx, row)
}

// wrong returns what the team's rules refuse of a row, or "".
func (b *batch) wrong(ctx context.Context, row *Staged) (string, error) {
	wrong, err := b.Rules.Check(ctx, row.Data.Status, row.Data.ExtraData)
	if err != nil || len(wrong) == 0 {
		return "", err
	}
	return wrong[0].String(), nil
}

func (b *batch) touch(id string, line int, version int64, before json.RawMessage) {
	if t := b.touched[id]; t != nil {
		t.Version = version
		return
	}
	b.touched[id] = &Touched{LeadID: id, Line: line, Version: version, Before: before}
	b.order = append(b.order, id)
}

// create creates the leads that do not exist. Rows with the same phone number become one lead.
func (b *batch) create(ctx context.Context, rows []*Staged, byPhone map[string]lead.Owned, unknown map[string]bool) error {
	var fresh []lead.Lead
	settle := []func(bool){}
	rowsOf, first, events := map[string][]*Staged{}, map[string]int{}, map[string]event.Event{}
	earlier, err := b.earlier(ctx, rows)
	if err != nil {
		return err
	}
	for _, row := range rows {
		phone := row.Data.Phone
		if row.Data.LeadID != "" && !unknown[row.Data.LeadID] {
			continue
		}
		if phone != nil {
			if byPhone[*phone].LeadID != "" || b.claimed[*phone] != "" {
				continue // the next round
			}
			if line, ok := earlier[*phone]; ok {
				row.done(Merged, fmt.Sprintf("line %d has the same phone number", line), nil)
				continue
			}
			if i, ok := first[*phone]; ok {
				l := &fresh[i]
				l.Merge(row.Data.Incoming, b.now)
				rowsOf[l.ID] = append(rowsOf[l.ID], row)
				continue
			}
		}
		reason, err := b.wrong(ctx, row)
		if err != nil {
			return err
		}
		if reason != "" {
			row.done(Skipped, reason, nil)
			continue
		}
		agentID, done, err := b.agent(ctx, row)
		if err != nil {
			return err
		}
		settle = append(settle, done)
		l, _ := row.Data.New(agentID, b.now)
		if phone != nil {
			first[*phone] = len(fresh)
		}
		fresh, rowsOf[l.ID] = append(fresh, l), []*Staged{row}
	}
	created := make([]string, 0, len(fresh))
	if b.of.DryRun {
		for i := range fresh {
			created = append(created, fresh[i].ID)
		}
	} else {
		for i := range fresh {
			events[fresh[i].ID] = fresh[i].Imported(b.now)
		}
		created, err = b.Leads.CreateAll(ctx, fresh, func(l *lead.Lead) event.Event { return events[l.ID] })
	}
	for _, done := range settle {
		done(err == nil && !b.of.DryRun)
	}
	if err != nil {
		return fmt.Errorf("create the leads of an import: %w", err)
	}
	for _, id := range created {
		leadID := &id
		if b.of.DryRun {
			leadID = nil
		} else {
			b.touch(id, rowsOf[id][0].Line, 1, nil)
		}
		for i, row := range rowsOf[id] {
			if i == 0 {
				row.done(Created, "", leadID)
			} else {
				row.done(Merged, fmt.Sprintf("line %d has the same phone number", rowsOf[id][0].Line), leadID)
			}
		}
	}
	return nil
}

// earlier returns the lines before this batch that would have created a lead of a row's number in a dry run.
func (b *batch) earlier(ctx context.Context, rows []*Staged) (map[string]int, error) {
	if !b.of.DryRun || len(rows) == 0 {
		return nil, nil
	}
	return b.Imports.Earlier(ctx, b.of.ID, phonesOf(rows), b.rows[0].Line)
}

// agent returns whose a new lead is.
func (b *batch) agent(ctx context.Context, row *Staged) (*string, func(bool), error) {
	own := &b.of.AgentID
	if id := row.Data.AgentID; id != "" {
		works, known := b.agents[id]
		if !known {
			err := b.Team.Check(ctx, id)
			if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
				return nil, nil, err
			}
			works = err == nil
			b.agents[id] = works
		}
		if works {
			return &id, func(bool) {}, nil
		}
	}
	if !b.of.Distribute {
		return own, func(bool) {}, nil
	}
	id, done, err := b.Balancer.Next(ctx)
	if err == nil && id == nil {
		id = own
	}
	return id, done, err
}
