package lead

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// completed is the status of a call that was transcribed.
const completed = "completed"

// stageOf returns the status that a call with an intent moves its lead to.
func stageOf(intent Intent) (Status, bool) {
	switch intent {
	case Interested, PaymentPending:
		return Qualified, true
	case CallbackRequested, Undecided:
		return InProgress, true
	case NotInterested, WrongNumber:
		return Lost, true
	case FuturePlanning:
		return Deferred, true
	case NoAnswer:
		return Contacted, true
	case IntentConverted:
		return Converted, true
	default:
		return "", false
	}
}

// OnCallChanged moves the lead of a completed call. It also takes call.updated, with which a call gets its lead later, and call.uploaded,
// with which one without a recording is completed.
func (s *Service) OnCallChanged(ctx context.Context, e event.Received[events.Call]) error {
	c := e.Data
	if c.LeadID == nil || c.Status != completed {
		return nil
	}
	_, err := s.Leads.Change(ctx, *c.LeadID, func(l *Lead) ([]event.Event, error) { return l.applyCall(c, s.Clock.Now()), nil })
	if fault.Is(err, fault.NotFound) {
		return nil // deleted
	}
	return err
}

// calledAt is when a call took place. The phone says so, and its clock may be wrong: a call was not recorded after it was uploaded.
func calledAt(c events.Call) time.Time {
	if c.RecordedAt != nil && c.RecordedAt.Before(c.CreatedAt) {
		return c.RecordedAt.UTC()
	}
	return c.CreatedAt.UTC()
}

// applyCall applies what was found in a call and returns the events of that, unless a newer call, or a newer version of this one, was
// applied already. What a person decided after the call stays.
func (l *Lead) applyCall(c events.Call, now time.Time) []event.Event {
	at := calledAt(c)
	before := *l
	if l.LastContactedAt == nil || l.LastContactedAt.Before(at) {
		l.LastContactedAt = &at
	}
	moved := false
	if says := intentOf(c) != "" || c.Summary != nil; says && l.Call.olderThan(c, at) {
		l.Call = AppliedCall{ID: &c.CallID, Version: c.Version, At: &at}
		if c.Summary != nil {
			l.ConversationSummary = shortened(*c.Summary, maxConversation)
		}
		moved = l.move(c, at)
	}
	again := before.Call.ID != nil && *before.Call.ID == c.CallID && before.IntentCategory == l.IntentCategory
	if (!moved || again) && reflect.DeepEqual(before.Fields, l.Fields) {
		return nil // at most, that the lead knows the call
	}
	l.touch(now)
	state := l.state()
	state.CallID = &c.CallID
	if moved && !again {
		// Also if another call said the same before: automations start on what each call says.
		return []event.Event{l.named(now, state)}
	}
	return []event.Event{events.LeadUpdated.New(now, state)}
}

// olderThan reports whether a call is newer than the one that was applied. Of calls at the same time, that with the greater id is.
func (a AppliedCall) olderThan(c events.Call, at time.Time) bool {
	switch {
	case a.ID == nil || a.At == nil:
		return true
	case *a.ID == c.CallID:
		return c.Version > a.Version
	case !at.Equal(*a.At):
		return at.After(*a.At)
	default:
		return c.CallID > *a.ID
	}
}

// intentOf returns the intent that was found in a call. If none was, as without a recording, it is what the agent's tag says; a call
// that was answered says nothing by that. The call of a reported attempt (NoAnswer) took place when the agent decided, and moves nothing.
func intentOf(c events.Call) Intent {
	if c.IntentCategory != nil {
		return Intent(*c.IntentCategory)
	}
	if c.CallTag != nil && (Intent(*c.CallTag) == NoAnswer || Intent(*c.CallTag) == WrongNumber) {
		return Intent(*c.CallTag)
	}
	return ""
}

// move sets the intent and what belongs to it. It does nothing for a call without an intent, and if a person has decided since.
func (l *Lead) move(c events.Call, at time.Time) bool {
	intent := intentOf(c)
	status, ok := stageOf(intent)
	if !ok || l.DecidedAt != nil && !at.After(*l.DecidedAt) {
		return false
	}
	l.IntentCategory, l.Status = intent, status
	reason := "Call " + c.CallID + ": " + string(intent)
	l.StatusReason = &reason
	l.find(c.IntentConfidence, c.InterestLevel, c.Objections, c.CallbackTime)
	return true
}

// find sets what a language model has found besides the intent, in place of what the previous call or summary had. What a person has
// written stays unless it was found anew.
func (l *Lead) find(confidence *float64, interest *string, objections []string, callback *time.Time) {
	f := Found{IntentConfidence: confidence, InterestLevel: interest}
	if len(objections) > 0 {
		f.Objections = shortened(strings.Join(objections, "; "), maxObjections)
	}
	if callback != nil {
		f.CallbackTime = new(callback.UTC().Truncate(time.Microsecond))
	}
	before := l.Found
	replace(&l.IntentConfidence, before.IntentConfidence, f.IntentConfidence, equal)
	replace(&l.InterestLevel, before.InterestLevel, f.InterestLevel, equal)
	replace(&l.Objections, before.Objections, f.Objections, equal)
	replace(&l.CallbackScheduledAt, before.CallbackTime, f.CallbackTime, time.Time.Equal)
	l.Found = f
}

// replace sets a field to what was found. If nothing was, it clears the field, provided that it still has what was found before.
func replace[T any](field **T, before, found *T, same func(a, b T) bool) {
	if found != nil || before != nil && *field != nil && same(**field, *before) {
		*field = found
	}
}

func equal[T comparable](a, b T) bool { return a == b }

// named returns the event that is named after the lead's intent.
func (l *Lead) named(now time.Time, state events.Lead) event.Event {
	for _, t := range events.LeadIntents() {
		if t.Name == "lead."+string(l.IntentCategory) {
			return t.New(now, state)
		}
	}
	return events.LeadUpdated.New(now, state)
}
