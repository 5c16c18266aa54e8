package followup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/text"
)

const (
	maxSuggestions = 20  // of one call
	maxTask        = 500 // characters, as in the contract
)

// suggest makes a suggestion from each action item of a completed call. It replaces the suggestions of an earlier completion that
// nobody has touched, and makes none for a task that an earlier suggestion has already become.
func (s *Service) suggest(ctx context.Context, call Call, e events.Call) error {
	touched, err := s.removeUntouched(ctx, call.ID)
	if err != nil || len(e.ActionItems) == 0 {
		return err
	}
	hours, err := s.Hours(ctx)
	if err != nil {
		return err
	}
	said := e.CreatedAt
	if e.RecordedAt != nil {
		said = *e.RecordedAt
	}
	for i, item := range e.ActionItems[:min(len(e.ActionItems), maxSuggestions)] {
		task := text.First(strings.TrimSpace(item), maxTask)
		if task == "" || touched[strings.ToLower(task)] {
			continue
		}
		x := suggestion(call, i, task, DueDate(task, said, hours), s.Clock.Now())
		if _, err := s.FollowUps.Create(ctx, x, func(*FollowUp) []event.Event { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// suggestion returns the suggestion of an action item. Its id depends only on the event and the item's index, so that a replay
// does not make another one.
func suggestion(call Call, index int, task string, due, now time.Time) FollowUp {
	x := schedule(call, fields{DueDate: &due, Task: &task}, now)
	x.ID, x.Status, x.Source, x.Announced = suggestionID(call.ID, call.Version, index), Suggested, ByAI, false
	return x
}

// suggestionID returns a UUIDv8 (RFC 9562): the beginning of a hash.
func suggestionID(callID string, version int64, index int) string {
	name := binary.BigEndian.AppendUint64([]byte(callID), uint64(version))
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(name, uint32(index)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// removeUntouched removes the suggestions of a call that nobody has accepted, changed or dismissed. It returns the tasks of the
// others, in lower case.
func (s *Service) removeUntouched(ctx context.Context, callID string) (touched map[string]bool, err error) {
	found, err := s.FollowUps.List(ctx, Filter{Now: s.Clock.Now(), ListRequest: ListRequest{CallID: callID, Request: page.All()}})
	if err != nil {
		return nil, err
	}
	touched = map[string]bool{}
	for _, x := range found.Items {
		switch {
		case x.Source != ByAI:
		case x.Status == Suggested && x.Version == 1:
			if err := s.FollowUps.Remove(ctx, x.ID, func(x *FollowUp) ([]event.Event, error) { return x.remove(s.Clock.Now()), nil }); err != nil {
				return nil, err
			}
		case x.Task != nil:
			touched[strings.ToLower(*x.Task)] = true
		}
	}
	return touched, nil
}
