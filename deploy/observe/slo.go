package main

import (
	"fmt"
	"strings"
)

// slo is an objective: the share of events that must be good.
type slo struct {
	name      string // label slo
	alert     string
	what      string                     // is good
	objective float64                    // 0 to 1
	bad       string                     // rate of bad events; %s is the window
	total     string                     // rate of all events
	counters  func(bad float64) []series // for tests: per minute 1,000 events of which that many are bad
}

// slos are the objectives of which a share may fail. That every event reaches its endpoints, or is dead with a reason, has no
// exception: the symptom EventsUnreconciled is its alert.
func slos() []slo {
	const requests, transcriptions, effects = "convoflow_gateway_request_duration_seconds_count", "convoflow_calls_processing_seconds", "convoflow_consumer_delay_seconds"
	return []slo{
		{
			name: "api", alert: "ApiErrorBudgetBurn", what: "requests are not answered with 5xx", objective: 0.999,
			bad: `sum(rate(` + requests + `{` + notProbes + `,status="5xx"}[%s]))`, total: `sum(rate(` + requests + `{` + notProbes + `}[%s]))`,
			counters: func(bad float64) []series {
				return []series{
					counter(requests+`{job="gateway",op="gateway.calls.list",status="5xx"}`, bad), counter(requests+`{job="gateway",op="gateway.calls.list",status="2xx"}`, 1000-bad),
					counter(requests+`{job="gateway",op="gateway.ready",status="5xx"}`, 1000), counter(requests+`{job="gateway",op="gateway.health",status="2xx"}`, 100_000), // neither counts
				}
			},
		},
		{
			name: "upload", alert: "UploadErrorBudgetBurn", what: "uploads are accepted, or refused for a reason that the client can change", objective: 0.995,
			bad: `sum(rate(` + requests + `{op="gateway.calls.upload",status="5xx"}[%s]))`, total: `sum(rate(` + requests + `{op="gateway.calls.upload"}[%s]))`,
			counters: func(bad float64) []series {
				return []series{counter(requests+`{job="gateway",op="gateway.calls.upload",status="5xx"}`, bad), counter(requests+`{job="gateway",op="gateway.calls.upload",status="2xx"}`, 1000-bad)}
			},
		},
		{
			name: "transcription", alert: "TranscriptionErrorBudgetBurn", what: "calls are completed or failed within 10 minutes of their upload", objective: 0.99,
			bad:   `(sum(rate(` + transcriptions + `_count[%[1]s])) - sum(rate(` + transcriptions + `_bucket{` + le("600") + `}[%[1]s])))`,
			total: `sum(rate(` + transcriptions + `_count[%s]))`,
			counters: func(bad float64) []series {
				return []series{counter(transcriptions+`_count{job="calls",status="completed"}`, 1000), counter(transcriptions+`_bucket{job="calls",status="completed",le="600.0"}`, 1000-bad)}
			},
		},
		{
			name: "effect", alert: "EffectErrorBudgetBurn", what: "events have their effect in another service within 5 seconds", objective: 0.999,
			bad:   `(sum(rate(` + effects + `_count[%[1]s])) - sum(rate(` + effects + `_bucket{` + le("5") + `}[%[1]s])))`,
			total: `sum(rate(` + effects + `_count[%s]))`,
			counters: func(bad float64) []series {
				return []series{counter(effects+`_count{job="crm",service="crm",topic="calls.calls.v1"}`, 1000), counter(effects+`_bucket{job="crm",service="crm",topic="calls.calls.v1",le="5.0"}`, 1000-bad)}
			},
		},
	}
}

// notProbes leaves out what a balancer asks every second: /ready answers 503 while one service is not ready, which no user has noticed, and
// the others would hide errors at night.
const notProbes = `op!~"gateway.(health|ready)"`

// le matches a bucket as it is written in OpenMetrics (5.0) and in the older text format (5).
func le(bound string) string { return `le=~"` + bound + `(\\.0)?"` }

// burn is a pair of windows. The alert fires when the budget of 30 days is spent that many times too fast in both: the long window
// says that it matters, the short one that it still goes on.
type burn struct {
	factor      float64
	long, short string
	lasts       string
	severity    string
}

// burnWindows are those of "The Site Reliability Workbook", chapter 5: 2 % of the budget in an hour, 5 % in 6 hours, 10 % in 3 days.
func burnWindows() []burn {
	return []burn{{14.4, "1h", "5m", "2m", page}, {6, "6h", "30m", "15m", page}, {1, "3d", "6h", "1h", ticket}}
}

func windows() []string { return []string{"5m", "30m", "1h", "6h", "3d", "30d"} }

// ratio is the recorded share of bad events.
func ratio(name, window string) string {
	return `slo:bad_events:ratio_rate` + window + `{slo="` + name + `"}`
}

// ratios records the share of bad events of each objective, in each window. Without any event there is no share.
func ratios() group {
	g := group{Name: "slo_ratios"}
	for _, s := range slos() {
		for _, w := range windows() {
			bad, total := strings.ReplaceAll(s.bad, "%[1]s", w), strings.ReplaceAll(s.total, "%s", w)
			bad = strings.ReplaceAll(bad, "%s", w)
			g.Rules = append(g.Rules, rule{
				Record: "slo:bad_events:ratio_rate" + w, Expr: `(` + bad + ` or vector(0)) / (` + total + ` > 0)`, Labels: map[string]string{"slo": s.name},
			})
		}
	}
	return g
}

func (s slo) budget() float64 { return 1 - s.objective }

func (s slo) summary() string {
	return fmt.Sprintf("The error budget is used up too fast: %.4g %% of %s", 100*s.objective, s.what)
}

func burns() group {
	g := group{Name: "slo_burn_rates"}
	for _, s := range slos() {
		for _, b := range burnWindows() {
			limit := fmt.Sprintf("%.6g", b.factor*s.budget())
			g.Rules = append(g.Rules, rule{
				Alert: s.alert, For: b.lasts, Expr: ratio(s.name, b.long) + " > " + limit + " and " + ratio(s.name, b.short) + " > " + limit,
				Labels:      map[string]string{"severity": b.severity, "window": b.long},
				Annotations: alert{name: s.alert, summary: s.summary()}.annotations(),
			})
		}
	}
	return g
}

// burnTests has for each objective: everything fails far too fast, somewhat too fast, a little too fast, within the budget, and far too
// fast until ten minutes ago.
func burnTests() []test {
	var tests []test
	for _, s := range slos() {
		for _, c := range []struct {
			name    string
			factor  float64  // of the budget
			firing  []string // windows
			at      string
			minutes int // until it ends; 0 for never
		}{
			{name: "far too fast", factor: 20, firing: []string{"1h", "6h", "3d"}, at: "3h"},
			{name: "too fast", factor: 8, firing: []string{"6h", "3d"}, at: "8h"},
			{name: "a little too fast", factor: 2, firing: []string{"3d"}, at: "8h"},
			{name: "within the budget", factor: 0.5, at: "8h"},
			{name: "not any more", factor: 20, firing: []string{"6h", "3d"}, at: "3h", minutes: 170},
		} {
			input := s.counters(c.factor * s.budget() * 1000)
			if c.minutes > 0 {
				good := s.counters(0)
				for i := range input {
					input[i] = input[i].until(c.minutes, good[i])
				}
			}
			tests = append(tests, test{Name: s.name + ": " + c.name, Interval: "1m", Input: input, Alerts: []expectation{{At: c.at, Alert: s.alert, Expected: s.firing(c.firing)}}})
		}
	}
	return tests
}

func (s slo) firing(windows []string) []fired {
	firing := []fired{}
	for _, b := range burnWindows() {
		for _, w := range windows {
			if b.long == w {
				firing = append(firing, fired{
					Labels:      map[string]string{"severity": b.severity, "window": b.long, "slo": s.name},
					Annotations: alert{name: s.alert, summary: s.summary()}.annotations(),
				})
			}
		}
	}
	return firing
}

// recorded are the expressions that several panels share and that are slow to compute over many series. Percentiles are not recorded: their
// panels show exemplars, which a recorded series has not.
func recorded() group {
	const results = "convoflow_operations_total"
	return group{Name: "operations", Rules: []rule{
		{Record: operationsRate, Expr: `sum by (service, op) (rate(` + results + `[5m]))`},
		{Record: notOKRate, Expr: `sum by (service, op, result) (rate(` + results + `{result!="ok"}[5m]))`},
	}}
}

const operationsRate, notOKRate = "service_op:convoflow_operations:rate5m", "service_op_result:convoflow_operations_not_ok:rate5m"
