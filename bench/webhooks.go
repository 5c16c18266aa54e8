package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
)

const (
	webhookCount   = 4000            // deliveries of a round
	dueIn          = 3 * time.Second // after they are inserted
	webhookSecret  = "the-secret-of-the-benchmark"
	webhookWorkers = 32
	webhookBody    = 900 // bytes, about that of a transcribed call
)

// sender is notify with a PostgreSQL and a receiver of webhooks in this process.
type sender struct {
	environment
	notify   *service
	postgres *postgres.Server
	pool     *pgxpool.Pool
	target   string
	body     []byte
}

// webhooks compares deliveries that are claimed, signed, sent and recorded with a loop that signs and sends the same bytes and records
// nothing, both with as many requests at the same time.
func webhooks(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("webhooks: deliveries of notify per second ÷ a bare loop of signed requests, %d at the same time", webhookWorkers/2)
	shared := *b
	shared.layout = newLayout(1)
	s := &sender{}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx, &shared, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write([]byte(`{"status":"success"}`))
	}); err != nil {
		return result, err
	}
	side := func(send func(context.Context) (time.Duration, error), into *report.Measure, parts ...part) func() error {
		return func() (err error) {
			*into, err = observeParts(parts, process.Any, func() (int, time.Duration, error) {
				took, err := send(ctx)
				return webhookCount, took, err
			})
			return err
		}
	}
	result = report.Result{Name: "webhooks", Peer: "bare loop", Unit: "/s", Floor: 0.10, Goal: 0.30}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, side(s.deliver, &round.Ours, part{"notify", s.notify}, part{"PostgreSQL", s.postgres}), side(s.loop, &round.Peer))
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	err = b.profile(ctx, "notify", s.notify.admin, func(length time.Duration) error {
		for took := clock.Stopwatch(); took() < length; {
			if _, err := s.deliver(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	result.Notes = append(result.Notes, fmt.Sprintf("%d deliveries that are due at once, to one receiver in the process of the benchmark; the time is that of inserting them plus that from when they are due until the last one is recorded", webhookCount))
	return result, err
}

func (s *sender) open(ctx context.Context, b *bench, receive http.HandlerFunc) (err error) {
	s.body = []byte(`{"event":"transcription.completed","summary":"` + strings.Repeat("x", webhookBody) + `"}`)
	if s.postgres, err = s.startPostgres(ctx); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if s.target, err = s.serve(receive); err != nil {
		return err
	}
	s.notify, err = s.startService(ctx, b, "notify", process.Any, "DATABASE_URL="+s.postgres.URL(), "SECRET_KEY=Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE",
		"PABBLY_WEBHOOK_URL="+s.target, "PABBLY_WEBHOOK_SECRET="+webhookSecret, "WEBHOOK_ALLOW_PRIVATE_CIDRS=127.0.0.0/8", fmt.Sprintf("WEBHOOK_WORKERS=%d", webhookWorkers))
	if err != nil {
		return err
	}
	if err := s.notify.ready(ctx); err != nil {
		return err
	}
	if s.pool, err = pgxpool.New(ctx, s.postgres.URL()); err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	s.add(func() error { s.pool.Close(); return nil })
	return nil
}

// deliver makes deliveries that are due later at the same time, and waits until all are recorded. It returns how long inserting them took
// plus the time from when they were due: notify, which did not insert them, may find them only up to a second later.
func (s *sender) deliver(ctx context.Context) (time.Duration, error) {
	inserting := clock.Stopwatch()
	if err := s.insert(ctx, "transcription.completed", webhookCount, dueIn); err != nil {
		return 0, err
	}
	inserted := inserting()
	wait := dueIn - inserted
	if wait < dueIn/2 {
		return 0, fmt.Errorf("inserting %d deliveries took %s: too long for them to be found before they are due", webhookCount, inserted)
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(wait):
	}
	sending := clock.Stopwatch()
	err := await(ctx, s.notify.Process, func() error {
		var waiting int
		if err := s.pool.QueryRow(ctx, `select count(*) from notify.deliveries where status in ('pending', 'retrying')`).Scan(&waiting); err != nil {
			return fmt.Errorf("count deliveries: %w", err)
		}
		if waiting > 0 {
			return fmt.Errorf("%d deliveries wait", waiting)
		}
		return nil
	})
	return inserted + sending(), err
}

// insert makes n deliveries of an event, due in that time, to the endpoints that name it or all events.
func (s *sender) insert(ctx context.Context, event string, n int, due time.Duration) error {
	_, err := s.pool.Exec(ctx, `
		insert into notify.deliveries (id, endpoint_id, event, event_id, event_time, data, body, status, attempts, failures, next_attempt_at, lease_epoch, trace, created_at, updated_at)
		select notify.delivery_id(now()), endpoints.id, $2, gen_random_uuid(), now(), $1, $1, 'pending', 0, 0, now() + $4::interval, 1, '{}', now(), now()
		from notify.endpoints, generate_series(1, $3) where $2 = any(events) or origin = 'environment' and $2 = 'transcription.completed'`, s.body, event, n, due)
	if err != nil {
		return fmt.Errorf("insert deliveries: %w", err)
	}
	return nil
}

// loop signs and sends as many requests.
func (s *sender) loop(ctx context.Context) (time.Duration, error) {
	sending := clock.Stopwatch()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: webhookWorkers}}
	var left atomic.Int64
	left.Store(webhookCount)
	var workers sync.WaitGroup
	failed := make(chan error, webhookWorkers)
	for range webhookWorkers / 2 {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := s.post(ctx, client); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	client.CloseIdleConnections()
	close(failed)
	return sending(), <-failed
}

func (s *sender) post(ctx context.Context, client *http.Client) error {
	mac := hmac.New(sha256.New, []byte(webhookSecret))
	mac.Write(s.body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(s.body))
	if err != nil {
		return fmt.Errorf("build a request: %w", err)
	}
	req.Header.Set("X-Pabbly-Signature", hex.EncodeToString(mac.Sum(nil)))
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send a request: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
