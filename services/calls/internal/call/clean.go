package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	Log        *slog.Logger
	// Missing reports how many recordings are not in the storage.
	Missing func(n int)
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

// Reconcile compares all recordings with all calls: it removes those without a call, and reports the calls whose recordings are not in
// the storage.
func (c *Cleaner) Reconcile(ctx context.Context) error {
	before := c.Clock.Now().Add(-c.OrphanAge)
	if err := c.Recordings.List(ctx, "", before, func(keys []string) error { return c.removeOrphans(ctx, keys) }); err != nil {
		return fmt.Errorf("remove recordings without a call: %w", err)
	}
	missing, stored := 0, months{recordings: c.Recordings, now: c.Clock.Now()}
	f := Filter{HasRecording: true, ListRequest: ListRequest{To: &before, Request: page.Request{Limit: pageSize}}}
	for {
		found, err := c.Calls.List(ctx, f)
		if err != nil {
			return fmt.Errorf("list calls: %w", err)
		}
		var suspects []string
		for _, call := range found.Items {
			has, err := stored.has(ctx, call.Recording.Key)
			if err != nil {
				return fmt.Errorf("list recordings: %w", err)
			}
			if !has {
				suspects = append(suspects, call.ID)
			}
		}
		n, err := c.reportMissing(ctx, suspects)
		if err != nil {
			return err
		}
		missing += n
		if f.Cursor = found.Next; f.Cursor == "" {
			c.Missing(missing)
			return nil
		}
	}
}

// reportMissing logs which of the calls still have a recording that is not in the storage: they may have been deleted meanwhile.
func (c *Cleaner) reportMissing(ctx context.Context, ids []string) (n int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	found, err := c.Calls.List(ctx, Filter{HasRecording: true, IDs: ids, ListRequest: ListRequest{Request: page.Request{Limit: len(ids)}}})
	for _, call := range found.Items {
		c.Log.WarnContext(ctx, "the recording of a call is not in the storage", "call_id", call.ID)
	}
	return len(found.Items), err
}

// months has the keys of the recordings of two months: calls are read by their age, and at midnight of the first the keys of both
// months alternate.
type months struct {
	recordings Recordings
	now        time.Time
	prefixes   [2]string
	keys       [2]map[string]bool
}

func (m *months) has(ctx context.Context, key string) (bool, error) {
	prefix := path.Dir(key) + "/"
	for i, known := range m.prefixes {
		if prefix == known {
			return m.keys[i][key], nil
		}
	}
	keys := map[string]bool{}
	err := m.recordings.List(ctx, prefix, m.now, func(page []string) error {
		for _, k := range page {
			keys[k] = true
		}
		return nil
	})
	m.prefixes, m.keys = [2]string{prefix, m.prefixes[0]}, [2]map[string]bool{keys, m.keys[0]}
	return keys[key], err
}
