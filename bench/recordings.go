package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
)

const (
	largeRecording = 100_000_000 // bytes
	atOnce         = 8           // large recordings
	callSeconds    = 10          // of a small recording
)

// recordings are the gateway and calls with a fake AI provider.
type recordings struct {
	environment
	requester
	gateway, calls *service
	postgres       *postgres.Server
	provider       provider
	large, small   string // files
}

// provider answers transcriptions and insights at once, unless it hangs or takes no requests.
type provider struct {
	hangs   atomic.Pointer[chan struct{}] // until it is closed
	limited atomic.Bool
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if gate := p.hangs.Load(); gate != nil {
		select {
		case <-*gate:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case p.limited.Load():
		w.Header().Set("Retry-After", "1800")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":{"message":"later"}}`)
	case strings.HasSuffix(r.URL.Path, "/transcriptions"):
		_, _ = io.WriteString(w, `{"text":"I would like the yearly plan."}`)
	default:
		_, _ = io.WriteString(w, `{"model":"m","choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"{\"summary\":\"The yearly plan.\"}"}}]}`)
	}
}

// callRecordings measures what agents and their phones do with recordings: upload, wait, poll.
func callRecordings(ctx context.Context, b *bench) (results []report.Result, err error) {
	b.printf("calls: the gateway and calls with recordings")
	r, err := b.startRecordings(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for _, measure := range []func(context.Context, *recordings) (report.Result, error){b.pollCall, b.overhead, b.uploadWhileHanging, b.uploadLarge} {
		result, err := measure(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", result.Name, err)
		}
		results = append(results, result)
	}
	return results, nil
}

func (b *bench) startRecordings(ctx context.Context) (_ *recordings, err error) {
	r := &recordings{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	dir, err := os.MkdirTemp(b.dir, "recordings-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	r.large, r.small = filepath.Join(dir, "large.wav"), filepath.Join(dir, "small.ogg")
	for file, args := range map[string][]string{
		r.large: {"-f", "lavfi", "-i", "anoisesrc=r=44100:a=0.1", "-fs", fmt.Sprint(largeRecording), "-ac", "2", "-c:a", "pcm_s16le"},
		r.small: {"-f", "lavfi", "-i", fmt.Sprintf("sine=duration=%d", callSeconds), "-c:a", "libopus"},
	} {
		if out, err := exec.CommandContext(ctx, "ffmpeg", append(append([]string{"-nostdin", "-v", "error"}, args...), file)...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a recording: %w: %s", err, out)
		}
	}
	if r.postgres, err = r.startPostgres(ctx); err != nil {
		return nil, err
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	ai, err := r.serve(&r.provider)
	if err != nil {
		return nil, err
	}
	r.calls, err = r.startService(ctx, b, "calls", process.Any, "DATABASE_URL="+r.postgres.URL(), "CRM_URL="+r.url, "STORAGE_URL=file://"+dir+"?create_dir=true", "AUDIO_TEMP_DIR="+dir,
		"OPENAI_API_KEY=none", "OPENAI_BASE_URL="+ai+"/v1", "SECRET_KEY=7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e",
		"QUOTA_AGENT_PENDING_CALLS=0", "QUOTA_AGENT_STORED_MB=0", "QUOTA_AGENT_MINUTES_PER_DAY=0", "QUOTA_TEAM_PENDING_CALLS=0")
	if err != nil {
		return nil, err
	}
	if err := r.calls.ready(ctx); err != nil {
		return nil, err
	}
	shared := *b
	shared.layout = newLayout(1)
	if r.gateway, err = r.startGateway(ctx, &shared, r.calls.url); err != nil {
		return nil, err
	}
	if err := r.gateway.ready(ctx); err != nil {
		return nil, err
	}
	r.requester = requester{client: &http.Client{Timeout: 5 * time.Minute}, base: r.gateway.url}
	r.token, err = r.issuer.Token(event.NewID())
	return r, err
}

func (r *recordings) parts() []part {
	return []part{{"gateway", r.gateway}, {"calls", r.calls}, {"PostgreSQL", r.postgres}}
}

// upload streams a file and returns the path of its call and how long the 202 took.
func (r *recordings) upload(ctx context.Context, file string) (path string, took time.Duration, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	if err := w.WriteField("force", "true"); err != nil {
		return "", 0, err
	}
	if _, err := w.CreateFormFile("audio", filepath.Base(file)); err != nil {
		return "", 0, err
	}
	end := "\r\n--" + w.Boundary() + "--\r\n"
	body := io.MultiReader(&form, f, strings.NewReader(end))
	length := int64(form.Len()) + info.Size() + int64(len(end))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/calls/upload", body)
	if err != nil {
		return "", 0, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", w.FormDataContentType())
	req.ContentLength = length
	watch := clock.Stopwatch()
	res, err := r.client.Do(req)
	if err != nil {
		return "", 0, fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	took = watch()
	var call struct{ ID string }
	if err == nil && res.StatusCode == http.StatusAccepted {
		err = json.Unmarshal(answer, &call)
	}
	if err != nil || call.ID == "" {
		return "", 0, fmt.Errorf("the upload returned %d: %.300s: %w", res.StatusCode, answer, err)
	}
	return "/calls/" + call.ID, took, nil
}

// completed polls a call, as an app does but without pauses of seconds, until it is completed.
func (r *recordings) completed(ctx context.Context, path string) (etag string, err error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		a, err := r.ok(ctx, path)
		switch {
		case err != nil:
			return "", err
		case bytes.Contains(a.body, []byte(`"status":"failed"`)):
			return "", fmt.Errorf("the call failed: %.600s", a.body)
		case bytes.Contains(a.body, []byte(`"status":"completed"`)):
			return a.header.Get("ETag"), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// timed measures how long each of several runs of work takes, and sets the value to what of returns of the sorted times.
func timed(parts []part, length time.Duration, of func([]time.Duration) time.Duration, work func() (time.Duration, error)) (report.Measure, error) {
	var times []time.Duration
	m, err := observeParts(parts, process.Any, func() (int, time.Duration, error) {
		for watch := clock.Stopwatch(); len(times) == 0 || watch() < length; {
			took, err := work()
			if err != nil {
				return 0, 0, err
			}
			times = append(times, took)
		}
		return len(times), length, nil
	})
	if err != nil {
		return m, err
	}
	slices.Sort(times)
	m.Value = micros(of(times))
	return m, nil
}

func middle(times []time.Duration) time.Duration { return times[len(times)/2] }
func p99(times []time.Duration) time.Duration    { return times[len(times)*99/100] }

// pollCall compares polling a call that has not changed with the cheapest response of the gateway.
func (b *bench) pollCall(ctx context.Context, r *recordings) (report.Result, error) {
	b.printf("  poll: GET /calls/{id} with its ETag ÷ GET /health, one after another")
	result := report.Result{Name: "poll a call", Peer: "GET /health", Unit: "µs", Floor: 12, Goal: 6}
	path, _, err := r.upload(ctx, r.small)
	if err != nil {
		return result, err
	}
	etag, err := r.completed(ctx, path)
	if err != nil {
		return result, err
	}
	get := func(path, etag string, want int) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			a, err := r.get(ctx, path, etag)
			if err == nil && a.status != want {
				err = fmt.Errorf("%s returned %d: %.300s", path, a.status, a.body)
			}
			return a.took, err
		}
	}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = timed(r.parts(), b.Length, middle, get(path, etag, http.StatusNotModified))
			return err
		}, func() (err error) {
			round.Peer, err = timed(r.parts(), b.Length, middle, get("/health", "", http.StatusOK))
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// overhead compares a call from its upload to its insights, with a provider that takes no time, with the decoding alone.
func (b *bench) overhead(ctx context.Context, r *recordings) (report.Result, error) {
	b.printf("  pipeline: a call of %d s from the upload to the insights, with a provider that answers at once ÷ ffmpeg that converts it", callSeconds)
	result := report.Result{Name: "pipeline", Peer: "ffmpeg", Unit: "µs", Floor: 6, Goal: 4}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = timed(r.parts(), b.Length, middle, func() (time.Duration, error) {
				watch := clock.Stopwatch()
				path, _, err := r.upload(ctx, r.small)
				if err == nil {
					_, err = r.completed(ctx, path)
				}
				return watch(), err
			})
			return err
		}, func() (err error) {
			round.Peer, err = timed(r.parts(), b.Length, middle, func() (time.Duration, error) {
				watch := clock.Stopwatch()
				out, err := exec.CommandContext(ctx, "ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", r.small, "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-application", "voip", "-compression_level", "0", "-b:a", "24k", "-f", "ogg", "-y", "/dev/null").CombinedOutput()
				if err != nil {
					err = fmt.Errorf("run ffmpeg: %w: %s", err, out)
				}
				return watch(), err
			})
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// uploadWhileHanging compares the p99 of small uploads while the provider hangs with that while it answers.
func (b *bench) uploadWhileHanging(ctx context.Context, r *recordings) (report.Result, error) {
	b.printf("  hang: p99 of an upload's 202 while the provider hangs ÷ while it answers")
	result := report.Result{Name: "upload, hanging", Peer: "provider up", Unit: "µs", Floor: 1.5, Goal: 1.1}
	uploads := func(into *report.Measure) error {
		var err error
		*into, err = timed(r.parts(), b.Length, p99, func() (time.Duration, error) {
			_, took, err := r.upload(ctx, r.small)
			return took, err
		})
		return err
	}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() error {
			gate := make(chan struct{})
			defer close(gate)
			r.provider.hangs.Store(&gate)
			defer r.provider.hangs.Store(nil)
			return uploads(&round.Ours)
		}, func() error { return uploads(&round.Peer) })
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// uploadLarge compares an upload with a copy of the file that is synced to the disk. Meanwhile calls decodes nothing: the provider takes no
// requests.
func (b *bench) uploadLarge(ctx context.Context, r *recordings) (report.Result, error) {
	b.printf("  upload: %d MB through the gateway to the 202 ÷ cat f > g; sync g", largeRecording/1_000_000)
	result := report.Result{Name: "upload 100 MB", Peer: "cat + sync", Unit: "µs", Floor: 3.5, Goal: 2}
	r.provider.limited.Store(true)
	if _, _, err := r.upload(ctx, r.small); err != nil {
		return result, err
	}
	started, err := r.calls.PeakMemory()
	if err != nil {
		return result, err
	}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = timed(r.parts(), 0, middle, func() (time.Duration, error) {
				_, took, err := r.upload(ctx, r.large)
				return took, err
			})
			return err
		}, func() (err error) {
			round.Peer, err = timed(r.parts(), 0, middle, func() (time.Duration, error) {
				copied := r.large + ".copy"
				defer func() { _ = os.Remove(copied) }()
				watch := clock.Stopwatch()
				out, err := exec.CommandContext(ctx, "sh", "-c", `cat "$0" > "$1" && sync "$1"`, r.large, copied).CombinedOutput()
				if err != nil {
					err = fmt.Errorf("copy the file: %w: %s", err, out)
				}
				return watch(), err
			})
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	var all errgroup.Group
	var mu sync.Mutex
	slowest := time.Duration(0)
	for range atOnce {
		all.Go(func() error {
			_, took, err := r.upload(ctx, r.large)
			mu.Lock()
			defer mu.Unlock()
			slowest = max(slowest, took)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return result, fmt.Errorf("upload %d at once: %w", atOnce, err)
	}
	calls, err := r.calls.PeakMemory()
	if err != nil {
		return result, err
	}
	gateway, err := r.gateway.PeakMemory()
	result.Notes = append(result.Notes, fmt.Sprintf("%d at once take %.1f s, and memory of %d MB at most in calls, which had %d MB before, and %d MB in the gateway",
		atOnce, slowest.Seconds(), calls>>20, started>>20, gateway>>20))
	return result, err
}
