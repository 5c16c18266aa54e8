package fault

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/fake/script"
)

// fault is something that goes wrong while the workload runs, and is over when inject returns.
type fault struct {
	name    string
	core    bool // runs with make fault ARGS=--core
	brokers int  // of an Apache Kafka that it needs; 0 for any broker
	leaves  bool // kills calls, and so may leave files of interrupted uploads until they are swept
	inject  func(n *nemesis)
}

// nemesis injects faults into a world under load.
type nemesis struct {
	*world
	load  *workload
	kills int // workers of transcriptions that this fault has interrupted
	short bool
	quiet time.Duration // how long the platform may go without progress after a fault

	settled time.Duration // how long it took to finish its work after the last fault
	found   []violation   // what a fault itself has observed
}

// fail records what a fault has observed.
func (n *nemesis) fail(invariant, format string, args ...any) {
	n.found = append(n.found, violation{invariant, fmt.Sprintf(format, args...)})
}

// last lets time pass, for a fault that lasts. In the short form it is a third of the time.
func (n *nemesis) last(d time.Duration) {
	if n.short {
		d /= 3
	}
	<-time.After(d)
}

// interrupted counts the workers of replicas of a service that are killed, stopped or restarted: in calls, each may cost a transcription
// once more. Nothing else may, whatever happens to the database.
func (n *nemesis) interrupted(service string, replicas int) {
	if service == "calls" {
		n.kills += replicas * transcribeWorkers
	}
}

// faults are all faults, in the order in which they run.
func faults() []fault {
	return []fault{
		{name: "kill each service", core: true, leaves: true, inject: killEach},
		{name: "kill both replicas of each service", leaves: true, inject: killBoth},
		{name: "restart each service", inject: restartEach},
		{name: "kill calls in a transcription", leaves: true, inject: killTranscription},
		{name: "stop a replica for 30 s", core: true, leaves: true, inject: stopReplicas(openai.Chat)},
		{name: "stop a replica that transcribes", leaves: true, inject: stopReplicas(openai.Transcriptions)},
		{name: "lose connections before the commit", inject: func(n *nemesis) { cutCommits(n, true) }},
		{name: "lose connections after the commit", core: true, inject: func(n *nemesis) { cutCommits(n, false) }},
		{name: "kill consumers without their database", core: true, inject: killBlockedConsumers},
		{name: "cut the database of each service", inject: cutDatabases},
		{name: "hang the database", inject: hangDatabase},
		{name: "restart PostgreSQL", inject: func(n *nemesis) { n.postgres.restart(n.t, false); n.last(5 * time.Second) }},
		{name: "crash PostgreSQL", inject: func(n *nemesis) { n.postgres.restart(n.t, true); n.last(5 * time.Second) }},
		{name: "a role that cannot log in for 30 s", inject: lockRoles},
		{name: "a missing table for 8 s", core: true, inject: missTables},
		{name: "Kafka down for 60 s", inject: func(n *nemesis) { kafkaDown(n, 60*time.Second) }},
		{name: "Kafka restarts", core: true, inject: func(n *nemesis) { kafkaDown(n, 3*time.Second) }},
		{name: "Kafka hangs for 20 s", inject: func(n *nemesis) { n.kafka.pause(n.t); n.last(20 * time.Second); n.kafka.resume(n.t) }},
		{name: "poison messages", core: true, inject: poison},
		{name: "unknown event types", core: true, inject: unknownTypes},
		{name: "a topic twice", core: true, inject: duplicateTopics},
		{name: "OpenAI misbehaves", inject: openAIMisbehaves},
		{name: "Pabbly misbehaves", inject: pabblyMisbehaves},
		{name: "auth down for 15 s", inject: authDown},
		{name: "a start without Kafka", leaves: true, inject: startWithoutKafka},
		{name: "a broker of three dies", brokers: 3, inject: brokerDies},
		{name: "a topic is lost", brokers: 3, inject: topicLost},
		{name: "Kafka comes back empty", brokers: 3, inject: kafkaEmpty},
	}
}

// killEach kills one replica of each service and starts it again.
func killEach(n *nemesis) {
	for _, service := range services {
		n.interrupted(service, 1)
		n.replicas[service][0].process().Kill()
		n.last(3 * time.Second)
		n.start(service)
	}
}

func killBoth(n *nemesis) {
	for _, service := range services {
		n.interrupted(service, len(n.replicas[service]))
		n.kill(service)
		n.last(2 * time.Second)
		n.start(service)
		n.awaitReady()
	}
}

// restartEach is a rolling restart, as a deployment makes it.
func restartEach(n *nemesis) {
	for _, service := range services {
		for _, r := range n.replicas[service] {
			n.interrupted(service, 1)
			p := r.process()
			p.Signal(syscall.SIGTERM)
			if _, err := p.Wait(stopTimeout); err != nil {
				n.fail("I8", "%v", err)
			}
			n.start(service)
			n.awaitReady()
		}
	}
}

// killTranscription kills all workers while a provider works for one of them.
func killTranscription(n *nemesis) {
	for _, endpoint := range []string{openai.Transcriptions, openai.Chat} {
		gate := n.openai.Block(endpoint)
		gate.Wait(n.t)
		n.interrupted("calls", len(n.replicas["calls"]))
		n.kill("calls")
		gate.Release()
		n.start("calls")
		n.awaitReady()
	}
}

// stopReplicas stops one replica of each consumer, and of calls while a provider works for it, for longer than its lease. The other
// replica does the work, and the late result must be refused.
func stopReplicas(endpoint string) func(n *nemesis) {
	return func(n *nemesis) {
		n.interrupted("calls", 1)
		// Several requests wait, so that each replica of calls has some of them.
		var gates []*script.Gate
		for range 6 {
			gates = append(gates, n.openai.Block(endpoint))
		}
		gates[len(gates)-1].Wait(n.t)
		stopped := []string{"calls", "crm", "notify"}
		for _, service := range stopped {
			n.replicas[service][0].process().Signal(syscall.SIGSTOP)
		}
		for _, g := range gates {
			g.Release()
		}
		if n.short {
			<-time.After(20 * time.Second) // the lease is 15 s
		} else {
			<-time.After(30 * time.Second)
		}
		for _, service := range stopped {
			n.replicas[service][0].process().Signal(syscall.SIGCONT)
		}
	}
}

// cutCommits closes connections just before or just after a commit, a few of each service. auth commits seldom.
func cutCommits(n *nemesis, before bool) {
	for service, times := range map[string]int64{"auth": 1, "calls": 5, "crm": 15, "notify": 5} {
		p := n.database[service]
		done := p.commits.Load()
		if before {
			p.cutBefore.Store(times)
		} else {
			p.cutAfter.Store(times)
		}
		if !within(20*time.Second, func() bool { return p.commits.Load() >= done+times }) {
			n.t.Logf("%s: only %d commits were cut", service, p.commits.Load()-done)
		}
		p.heal()
	}
}

// killBlockedConsumers kills consumers that hold events which they cannot apply: their offsets must not be committed.
func killBlockedConsumers(n *nemesis) {
	for _, service := range []string{"notify", "crm"} {
		n.database[service].cut()
		before := n.log.count(`select count(*)::int from fault.committed where type = any($1)`, subscriptions[service])
		n.poll(startTimeout, "events for "+service, func() bool {
			return n.log.count(`select count(*)::int from fault.committed where type = any($1)`, subscriptions[service]) >= before+5
		})
		<-time.After(2 * time.Second) // until they are published and fetched
		n.kill(service)
		n.database[service].heal()
		n.start(service)
		n.awaitReady()
	}
}

func cutDatabases(n *nemesis) {
	for _, service := range backends {
		n.database[service].drop()
		n.last(time.Second)
		n.database[service].cut()
		n.last(4 * time.Second)
		n.database[service].heal()
	}
}

func hangDatabase(n *nemesis) {
	for _, service := range backends {
		n.database[service].hang()
	}
	n.last(10 * time.Second)
	for _, service := range backends {
		n.database[service].heal()
	}
}

func lockRoles(n *nemesis) {
	for _, service := range backends {
		n.postgres.exec(n.t, "alter role "+service+" nologin", "select pg_terminate_backend(pid) from pg_stat_activity where usename = '"+service+"'")
	}
	n.last(30 * time.Second)
	for _, service := range backends {
		n.postgres.exec(n.t, "alter role "+service+" login")
	}
	n.noneDead("a role that cannot log in")
}

func missTables(n *nemesis) {
	tables := []string{"notify.deliveries", "crm.calls", "notify.clients", "calls.clients"}
	for _, table := range tables {
		_, name, _ := strings.Cut(table, ".")
		n.postgres.exec(n.t, "alter table "+table+" rename to "+name+"_away")
	}
	<-time.After(8 * time.Second)
	for _, table := range tables {
		_, name, _ := strings.Cut(table, ".")
		n.postgres.exec(n.t, "alter table "+table+"_away rename to "+name)
	}
	n.noneDead("a missing table")
}

// noneDead requires that no event of the platform is in a dead-letter topic.
func (n *nemesis) noneDead(why string) {
	n.fetch()
	for _, m := range n.log.dead() {
		if !n.log.foreign[m.ID] {
			n.fail("I2", "%s dead-lettered %s %s in %s: %s", why, m.Type, m.ID, m.Topic, m.Headers["dead_reason"])
		}
	}
}

// deadWithin is how long a poison message may take into its dead-letter topic, with more time for a busy machine than the 10 s
// that are the target.
const deadWithin = 30 * time.Second

// poisons is how many messages poison publishes to each topic: 72 in all, the number for which the target is set.
const poisons = 18

func openAIMisbehaves(n *nemesis) {
	steps := []script.Step{
		openai.Status(http.StatusTooManyRequests, "rate_limit_exceeded", "1"), openai.Status(http.StatusTooManyRequests, "rate_limit_exceeded", ""),
		openai.Status(http.StatusInternalServerError, "server_error", ""), script.TruncateBody, script.NotJSON, openai.WrongSchema, script.Slow(3 * time.Second),
	}
	n.kills += 4 * len(steps) // each failed request is one that the fake has counted
	for range 2 {
		n.openai.Script(openai.Transcriptions, steps...)
		n.openai.Script(openai.Chat, append(steps, openai.Refuse("no"))...)
	}
	n.last(12 * time.Second)
}

func pabblyMisbehaves(n *nemesis) {
	steps := []script.Step{
		pabbly.Status(http.StatusInternalServerError, ""), pabbly.Status(http.StatusTooManyRequests, "2"), script.Redirect("http://127.0.0.1:1/"),
		script.EndlessBody, script.SlowLoris(200 * time.Millisecond), script.TruncateBody, script.Slow(2 * time.Second),
	}
	n.pabbly.Script(pabbly.Any, append(steps, script.Hang)...)
	n.pabbly.Script(pabbly.Any, steps...)
	n.last(12 * time.Second)
}

func authDown(n *nemesis) {
	n.kill("auth")
	n.last(15 * time.Second)
	n.start("auth")
	n.awaitReady()
}

// startWithoutKafka restarts everything while Kafka is away: it serves, and a session that has ended stays ended.
func startWithoutKafka(n *nemesis) {
	n.interrupted("calls", len(n.replicas["calls"]))
	c := n.load.workers[0]
	token := n.session(c)
	n.end(token)
	n.kafka.down(n.t)
	for _, service := range services {
		n.kill(service)
	}
	n.startAll()
	if !within(60*time.Second, func() bool { return n.get("/ready", "") == http.StatusOK }) {
		n.fail("I8", "nothing serves 60 s after a start without Kafka")
	}
	// A service that has not asked auth yet answers 503, as long as that takes. It must never accept the session.
	var got int
	within(60*time.Second, func() bool { got = n.get("/clients", token); return got != http.StatusServiceUnavailable })
	if got != http.StatusUnauthorized {
		n.fail("I8", "a session that ended before the start got %d without Kafka", got)
	}
	// One that ends now must be refused within seconds.
	token = n.session(c)
	if token != "" {
		n.end(token)
		if !within(20*time.Second, func() bool { return n.get("/clients", token) == http.StatusUnauthorized }) {
			n.fail("I8", "a session that ended while Kafka is away is still accepted after 20 s")
		}
	}
	n.kafka.start(n.t)
	n.awaitReady()
}

// session logs in for a token of its own.
func (n *nemesis) session(c *worker) string {
	own := &worker{workload: n.load, number: 0, http: c.http, email: c.email}
	if !within(startTimeout, func() bool { return own.logIn(n.t.Context()).answered() }) {
		n.fail("I8", "nobody can log in")
	}
	return own.token
}

func (n *nemesis) end(token string) {
	within(30*time.Second, func() bool {
		status := n.request(http.MethodPost, "/auth/logout", token)
		return status >= 200 && status < 300 || status == http.StatusUnauthorized
	})
}

func (n *nemesis) get(path, token string) int { return n.request(http.MethodGet, path, token) }

// request returns the status of an answer, 0 without one.
func (n *nemesis) request(method, path, token string) int {
	request, err := http.NewRequestWithContext(n.t.Context(), method, n.url+path, nil)
	if err != nil {
		return 0
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Timeout: requestTimeout}).Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// muteWithin is how long nothing may be handled when a broker dies, with more time for a busy machine than the 15 s that are the target.
const muteWithin = 30 * time.Second

// quiet is how long the platform may go without progress after a fault before its work is done. A machine that is busy with other
// things makes progress slowly.
const (
	quiet    = 60 * time.Second
	maxQuiet = 10 * quiet
)

// settle waits until everything that was begun is done, and returns what is not.
func (n *nemesis) settle() (open []string) {
	ctx, cancel := context.WithTimeout(n.t.Context(), maxQuiet)
	defer cancel()
	began := clock.Stopwatch()
	open = await(n.quiet, func() []string { return n.log.settled(ctx) })
	n.settled = began()
	return open
}

// await waits until nothing is left, or what is left does not change for that long.
func await(limit time.Duration, left func() []string) (last []string) {
	idle := clock.Stopwatch()
	within(maxQuiet, func() bool {
		now := left()
		if !slices.Equal(now, last) {
			last, idle = now, clock.Stopwatch()
		}
		return len(last) == 0 || idle() > limit
	})
	return last
}
