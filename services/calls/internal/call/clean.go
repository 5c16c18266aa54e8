package call

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
)

const (
	// erasureAge is the age at which Sweep does an erasure whose job has not run: the job may have been lost with its process.
	erasureAge  = 10 * time.Minute
	erasureSize = 100 // per sweep
)

// Cleaner removes recordings without a call.
type Cleaner struct {
	Calls      Store
	Erasures   Erasures
	Recordings Recordings
	Clock      clock.Clock
	OrphanAge  time.Duration // age at which a file without a call is removed
}

// Erase runs the job of a deleted call: it removes the recording. After an error it must be retried.
func (c *Cleaner) Erase(ctx context.Context, id string) error {
	e, ok, err := c.Erasures.Find(ctx, id)
	if err != nil || !ok {
		return err
	}
	return c.erase(ctx, e)
}

func (c *Cleaner) erase(ctx context.Context, e Erasure) error {
	if err := c.Recordings.Remove(ctx, e.AudioKey); err != nil {
		return fmt.Errorf("remove the recording of deleted call %s: %w", e.ID, err)
	}
	return c.Erasures.Remove(ctx, e.ID, func(x events.Erasure) event.Event { return x.DoneBy(self, c.Clock.Now()) })
}

// Sweep finishes erasures whose jobs were lost. It also removes this and last month's files without a call, which remain if a
// process dies between storing a recording and storing its call. It removes only files whose names the service generated.
func (c *Cleaner) Sweep(ctx context.Context) error {
	late, err := c.Erasures.List(ctx, erasureAge, erasureSize)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range late {
		failed = append(failed, c.erase(ctx, e))
	}
	now := c.Clock.Now()
	month := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, prefix := range []string{prefixOf(month.AddDate(0, -1, 0)), prefixOf(month)} {
		err := c.Recordings.List(ctx, prefix, now.Add(-c.OrphanAge), func(keys []string) error { return c.removeOrphans(ctx, keys) })
		if err != nil {
			failed = append(failed, fmt.Errorf("sweep %s: %w", prefix, err))
		}
	}
	return errors.Join(failed...)
}

func (c *Cleaner) removeOrphans(ctx context.Context, keys []string) error {
	// In a directory, a killed upload leaves the same name with a suffix.
	name := regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(\.[0-9a-f]+\.tmp)?$`)
	ours := map[string]bool{}
	var ids []string
	for _, key := range keys {
		if parts := name.FindStringSubmatch(path.Base(key)); parts != nil {
			ours[key] = true
			ids = append(ids, parts[1])
		}
	}
	if len(ids) == 0 {
		return nil
	}
	found, err := c.Calls.List(ctx, Filter{IDs: ids, ListRequest: ListRequest{Request: page.Request{Limit: len(ids)}}})
	if err != nil {
		return fmt.Errorf("look for the calls of %d recordings: %w", len(ids), err)
	}
	for _, call := range found.Items {
		delete(ours, call.Recording.Key)
	}
	for key := range ours {
		if err := c.Recordings.Remove(ctx, key); err != nil {
			return fmt.Errorf("remove %s: %w", key, err)
		}
	}
	return nil
}
