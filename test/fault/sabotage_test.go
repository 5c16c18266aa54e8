package fault

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sabotage is a guarantee of the platform that is switched off by changing its source at build time (go build -overlay), so that
// no program of the platform has a switch for it.
type sabotage struct {
	name     string
	services []string // that are built with it
	patches  []patch
	fault    string // that shows it
	shows    string // part of the violation that it causes
	quiet    time.Duration
}

// patch replaces a text that a file contains exactly once.
type patch struct{ file, old, new string }

func sabotages() []sabotage {
	return []sabotage{
		{
			name: "the inbox is off", services: []string{"crm", "notify"}, fault: "a topic twice", shows: "applied more than once", quiet: 10 * time.Second,
			patches: []patch{{
				"libs/inbox/inbox.go",
				"insert into inbox (event_id) select distinct unnest($1::uuid[]) order by 1 on conflict do nothing returning event_id::text",
				"select distinct unnest($1::uuid[])::text",
			}},
		},
		{
			// The consumer believes that a failed effect is there, and commits its offset. It is tried again later.
			name: "offsets are committed before the effect", services: []string{"crm", "notify"}, fault: "kill consumers without their database", shows: "notify has not handled", quiet: quiet,
			patches: []patch{{"libs/inbox/inbox.go", "	return i.db.InTx(ctx, fn)\n", `	if i.db.InTx(ctx, fn) != nil {
		go func() {
			for i.db.InTx(context.WithoutCancel(ctx), fn) != nil {
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	return nil
`}},
		},
		{
			name: "fencing is off", services: []string{"calls"}, fault: "stop a replica for 30 s", shows: "ended 2 times", quiet: quiet,
			patches: []patch{
				{"libs/lease/lease.go", "if l.Epoch != epoch || l.Holder == nil {\n", "if false {\n"},
				{"services/calls/internal/store/steps.go", " and lease_epoch = $2 and lease_holder is not null", ""},
				{"libs/lease/heartbeat.go", "func() { cancel(ErrSuperseded) }", "func() {}"},
				{"libs/lease/heartbeat.go", "				cancel(ErrSuperseded)\n				return\n", "				return\n"},
			},
		},
		{
			name: "events are published before the commit", services: []string{"crm"}, fault: "lose connections before the commit", shows: "published and never committed", quiet: quiet,
			patches: []patch{
				{"libs/outbox/outbox.go", "	wake chan struct{}\n}", "	wake chan struct{}\n	to   Publisher\n}"},
				{"libs/outbox/outbox.go", "	o.db.AfterCommit(ctx, o.Wake)\n", `	if o.to != nil {
		for _, x := range events {
			x.event.Source = "/convoflow/" + o.tel.Service
			_, _ = o.to.Publish(context.WithoutCancel(ctx), x.event.Topic, []Message{{Event: x.event, Trace: x.trace}})
		}
	}
	o.db.AfterCommit(ctx, o.Wake)
`},
				{"libs/outbox/relay.go", "func (o *Outbox) Relay(to Publisher) run.Actor {\n", "func (o *Outbox) Relay(to Publisher) run.Actor {\n	o.to = to\n"},
			},
		},
		{
			name: "changes are counted outside of their transaction", services: []string{"crm"}, fault: "lose connections before the commit", shows: "the count ", quiet: quiet,
			patches: []patch{{
				"services/crm/internal/store/analytics.go",
				"return db.Later(ctx,",
				"return db.Later(context.Background(),",
			}},
		},
	}
}

// TestTheCheckerFindsSabotage tests the checker on programs without one of the platform's guarantees: the fault that the guarantee
// is for must show what it prevents. A patch that does not apply any more fails: its file was changed and it has to follow.
func TestTheCheckerFindsSabotage(t *testing.T) {
	t.Parallel()
	for _, s := range sabotages() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			binaries := programs.all(t)
			overlay := s.overlay(t)
			for _, service := range s.services {
				binaries[service] = programs.build(t, service, service+"-"+strings.ReplaceAll(s.name, " ", "-"), "-overlay", overlay)
			}
			w := newWorld(t, binaries, func(service string) int {
				if slices.Contains(s.services, service) || service == "calls" {
					return 2
				}
				return 1
			}, startEmbedded)
			n := newNemesis(t, w, true)
			n.quiet = s.quiet
			i := slices.IndexFunc(faults(), func(f fault) bool { return f.name == s.fault })
			require.GreaterOrEqual(t, i, 0, "there is a fault %q", s.fault)
			found := n.try(faults()[i])
			i = slices.IndexFunc(found, func(v violation) bool { return strings.Contains(v.What, s.shows) })
			require.GreaterOrEqual(t, i, 0, "the checker found %v", found)
			t.Logf("found: %s", found[i])
		})
	}
}

// overlay writes the changed files and the list of them for go build.
func (s sabotage) overlay(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir, texts := t.TempDir(), map[string]string{}
	for _, p := range s.patches {
		text, ok := texts[p.file]
		if !ok {
			source, err := os.ReadFile(filepath.Join(root, p.file))
			require.NoError(t, err)
			text = string(source)
		}
		require.Equal(t, 1, strings.Count(text, p.old), "%s contains %q once", p.file, p.old)
		texts[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		replace[filepath.Join(root, file)] = path
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	path := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(path, raw, 0o600))
	return path
}
