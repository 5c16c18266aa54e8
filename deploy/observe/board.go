package main

import (
	"fmt"
	"slices"
	"strings"
)

func boards() []board {
	return []board{overview(), pipeline(), gateway(), auth(), calls(), crm(), notify(), business()}
}

// overview shows whether the platform keeps its objectives, and where it does not.
func overview() board {
	var budgets, burning []panel
	for _, s := range slos() {
		budgets = append(budgets, panel{
			title: s.name + ": budget left", description: fmt.Sprintf("Of 30 days: %.4g %% of %s.", 100*s.objective, s.what), unit: "percentunit", single: true, red: 0.001, green: 0.5,
			queries: one(fmt.Sprintf("1 - %s / %.4g", ratio(s.name, "30d"), s.budget()), s.name),
		})
		burning = append(burning, panel{
			title: s.name + ": burn rate", description: "How many times too fast the budget is spent; pages are at 14.4 in an hour and 6 in six hours.", unit: "short",
			queries: []query{{expr: fmt.Sprintf("%s / %.4g", ratio(s.name, "1h"), s.budget()), legend: "1 h"}, {expr: fmt.Sprintf("%s / %.4g", ratio(s.name, "6h"), s.budget()), legend: "6 h"}},
		})
	}
	budgets = append(budgets, panel{
		title: "events without delivery", description: "100 % of the events that match an endpoint are delivered, or dead with a reason.", unit: "short", single: true, red: 1,
		queries: one(`max(`+withoutDelivery+`)`, "events"),
	}, panel{title: "replicas that answer", unit: "short", single: true, queries: one(`sum(up{job=~"`+all+`"})`, "up")})
	return board{id: "overview", title: "Convoflow: overview", description: "Objectives, services and backlogs.", from: "now-6h", rows: []row{
		{"Error budgets of 30 days", budgets},
		{"Burn rates", burning},
		{"Services", []panel{
			{title: "Requests at the gateway", unit: "reqps", stacked: true, queries: one(rate("convoflow_gateway_request_duration_seconds_count", "", "status"), "{{status}}")},
			{title: "Operations by service", unit: "reqps", queries: one(`sum by (service) (`+operationsRate+`)`, "{{service}}")},
			{title: "Failed operations by service", unit: "reqps", queries: one(orZero(rate("convoflow_operation_duration_seconds_count", `status="failed"`, "service")), "{{service}}")},
			{title: "Requests at the gateway, 99th percentile", unit: "s", queries: []query{{p99("convoflow_gateway_request_duration_seconds", `op!~".*(events|audio|upload).*"`, "job"), "p99", true}}},
			{title: "CPU by service", description: "Cores.", unit: "short", queries: one(`sum by (job) (rate(process_cpu_seconds_total{job=~"`+all+`"}[$__rate_interval]))`, "{{job}}")},
			{title: "Memory by service", unit: "bytes", queries: one(`sum by (job) (process_resident_memory_bytes{job=~"`+all+`"})`, "{{job}}")},
		}},
		{"Ages of what waits", []panel{
			{title: "Outboxes", unit: "s", queries: one(`max by (service) (convoflow_outbox_oldest_seconds)`, "{{service}}")},
			{title: "Consumers", unit: "s", queries: one(`max by (service) (convoflow_consumer_lag_seconds)`, "{{service}}")},
			{title: "Calls", unit: "s", queries: one(`max by (status) (convoflow_calls_oldest_unfinished_seconds)`, "{{status}}")},
			{title: "Deliveries", unit: "s", queries: one(`max(`+oldestOpen+`)`, "oldest")},
			{title: "Jobs", unit: "s", queries: one(`max by (kind) (convoflow_jobs_oldest_due_seconds)`, "{{kind}}")},
			{title: "Transactions", unit: "s", queries: one(`max by (service) (convoflow_database_oldest_transaction_seconds)`, "{{service}}")},
		}},
	}}
}

// pipeline follows a recording from the upload to Pabbly's 2xx.
func pipeline() board {
	return board{id: "pipeline", title: "Convoflow: pipeline", description: "From the upload to the webhook.", from: "now-6h", rows: []row{
		{"Upload", []panel{
			{title: "Uploads by status", unit: "reqps", queries: one(rate("convoflow_gateway_request_duration_seconds_count", `op="gateway.calls.upload"`, "status"), "{{status}}")},
			{title: "Duration, 99th percentile", unit: "s", queries: []query{{p99("convoflow_gateway_request_duration_seconds", `op="gateway.calls.upload"`, "op"), "upload", true}}},
			{title: "Storage, 99th percentile", unit: "s", queries: []query{{p99("convoflow_calls_bucket_duration_seconds", "", "step"), "{{step}}", true}}},
		}},
		{"Transcription and insights", append(unfinished(), []panel{
			{title: "Upload to result", unit: "s", queries: []query{
				{`histogram_quantile(0.5, sum by (le) (rate(convoflow_calls_processing_seconds_bucket[$__rate_interval])))`, "median", false},
				{p99("convoflow_calls_processing_seconds", "", "job"), "p99", true},
			}},
			{title: "ffmpeg, 99th percentile", unit: "s", queries: []query{{p99("convoflow_calls_audio_duration_seconds", "", "step"), "{{step}}", true}}},
			{title: "AI providers, 99th percentile", unit: "s", queries: []query{{p99("convoflow_calls_provider_request_duration_seconds", "", "provider, model"), "{{provider}} {{model}}", true}}},
			{title: "AI providers by result", unit: "reqps", queries: one(rate("convoflow_calls_provider_request_duration_seconds_count", "", "provider, result"), "{{provider}} {{result}}")},
		}...)},
		{"Events", []panel{
			{title: "Outbox: oldest event", unit: "s", queries: one(`max by (service) (convoflow_outbox_oldest_seconds)`, "{{service}}")},
			{title: "Consumers: oldest message", unit: "s", queries: one(`max by (service, topic) (convoflow_consumer_lag_seconds)`, "{{service}} {{topic}}")},
			{title: "From the change to the effect, 99th percentile", unit: "s", queries: []query{{p99("convoflow_consumer_delay_seconds", "", "service"), "{{service}}", true}}},
		}},
		{"Webhooks", deliveries()},
	}}
}

func unfinished() []panel {
	return []panel{
		{title: "Calls that have not ended", unit: "short", queries: one(`max by (status) (convoflow_calls_unfinished)`, "{{status}}")},
		{title: "Oldest of them", unit: "s", queries: one(`max by (status) (convoflow_calls_oldest_unfinished_seconds)`, "{{status}}")},
		{title: "Attempts by result", unit: "cps", queries: one(rate("convoflow_calls_attempts_total", "", "status, result"), "{{status}} {{result}}")},
	}
}

func deliveries() []panel {
	return []panel{
		{title: "Attempts by outcome", unit: "cps", queries: one(rate(deliveriesTotal, "", "result"), "{{result}}")},
		{title: "Requests to receivers, 99th percentile", unit: "s", queries: []query{{p99("convoflow_notify_attempt_duration_seconds", "", "answer"), "{{answer}}", true}}},
		{title: "Oldest open delivery", unit: "s", queries: one(`max(`+oldestOpen+`)`, "oldest")},
		{title: "Disabled endpoints", unit: "short", single: true, red: 1, queries: one(`max(`+endpointsDisabled+`)`, "endpoints")},
		{title: "Events without delivery", unit: "short", single: true, red: 1, queries: one(`max(`+withoutDelivery+`)`, "events")},
	}
}

func gateway() board {
	const requests = "convoflow_gateway_request_duration_seconds"
	return board{id: "gateway", title: "Convoflow: gateway", description: "Requests as the apps see them.", from: "now-1h", rows: []row{
		{"Requests", []panel{
			{title: "Rate by operation", unit: "reqps", stacked: true, queries: one(rate(requests+"_count", "", "op"), "{{op}}")},
			{title: "By status", unit: "reqps", stacked: true, queries: one(rate(requests+"_count", "", "status"), "{{status}}")},
			{title: "5xx by operation", unit: "reqps", queries: one(orZero(rate(requests+"_count", `status="5xx"`, "op")), "{{op}}")},
			{title: "Duration, 99th percentile", unit: "s", queries: []query{{p99(requests, "", "op"), "{{op}}", true}}},
			{title: "In flight", unit: "short", queries: one(`sum by (instance) (convoflow_gateway_requests_in_flight)`, "{{instance}}")},
			{title: "Refused by the gateway itself", description: "Codes are explained in docs/errors.md.", unit: "reqps", queries: one(orZero(rate("convoflow_gateway_refused_total", "", "code")), "{{code}}")},
		}},
		{"Limits", []panel{
			{title: "Requests at the services", unit: "short", queries: one(`sum by (upstream, kind) (convoflow_gateway_upstream_in_flight)`, "{{upstream}} {{kind}}")},
			{title: "Services that are overloaded or fail", unit: "reqps", queries: one(orZero(rate("convoflow_gateway_upstream_refused_total", "", "upstream, reason")), "{{upstream}} {{reason}}")},
			{title: "Sent once more", unit: "reqps", queries: one(orZero(rate("convoflow_gateway_upstream_retries_total", "", "upstream")), "{{upstream}}")},
			{title: "Refused because of their rate", unit: "reqps", queries: one(orZero(rate("convoflow_gateway_rate_limited_total", "", "class, by")), "{{class}} by {{by}}")},
			{title: "Bodies in memory", unit: "bytes", queries: one(`sum by (instance) (convoflow_gateway_body_memory_bytes)`, "{{instance}}")},
			{title: "Ended sessions: may be missed for", unit: "s", queries: one(`max by (service) (convoflow_watcher_stale_seconds)`, "{{service}}")},
		}},
		process("gateway"),
	}}
}

func auth() board {
	const results = "convoflow_operations_total"
	own := row{"Logins and keys", []panel{
		{title: "Logins by result", unit: "reqps", queries: one(rate(results, `op="auth.login"`, "result"), "{{result}}")},
		{title: "Refreshes by result", unit: "reqps", queries: one(orZero(rate(results, `op="auth.refresh"`, "result")), "{{result}}")},
		{title: "Refused tokens and accounts, everywhere", unit: "reqps", queries: one(orZero(rate("convoflow_gateway_refused_total", `code=~"not_authenticated|token_.*|session_.*|invalid_token|forbidden|admin_only"`, "code")), "{{code}}")},
		{title: "Signing key is replaced in", unit: "s", single: true, red: -3600, green: 0, queries: one(`max(convoflow_auth_signing_key_remaining_seconds)`, "left")},
	}}
	return board{id: "auth", title: "Convoflow: auth", description: "Agents, logins and keys.", from: "now-1h", rows: slices.Concat([]row{own}, service("auth"), []row{process("auth")})}
}

func calls() board {
	const provider = "convoflow_calls_provider_"
	own := []row{
		{"Calls", unfinished()},
		{"AI providers", []panel{
			{title: "Requests by result", unit: "reqps", queries: one(rate(provider+"request_duration_seconds_count", "", "provider, model, result"), "{{provider}} {{model}} {{result}}")},
			{title: "Duration, 99th percentile", unit: "s", queries: []query{{p99(provider+"request_duration_seconds", "", "provider, model"), "{{provider}} {{model}}", true}}},
			{title: "Tokens", description: "Per second.", unit: "short", queries: one(rate(provider+"tokens_total", "", "model, direction"), "{{model}} {{direction}}")},
			{title: "Sent again because an answer was lost", description: "In the last hour.", unit: "short", queries: one(`sum by (step) (increase(convoflow_calls_requests_repeated_total[1h]))`, "{{step}}")},
			{title: "Parts of answers that were not used", unit: "cps", queries: one(rate("convoflow_calls_answers_dropped_total", "", "what"), "{{what}}")},
			{title: "Out of quota", unit: "short", single: true, red: 1, queries: one(`max by (provider) (convoflow_calls_provider_out_of_quota)`, "{{provider}}")},
			{title: "Model ends in", description: "Of models whose end is announced.", unit: "s", single: true, red: 30 * 86400, green: 60 * 86400, queries: one(`min by (provider) (convoflow_calls_model_remaining_seconds)`, "{{provider}}")},
		}},
		{"Recordings", []panel{
			{title: "ffmpeg by result", unit: "cps", queries: one(rate("convoflow_calls_audio_duration_seconds_count", "", "step, result"), "{{step}} {{result}}")},
			{title: "ffmpeg, 99th percentile", unit: "s", queries: []query{{p99("convoflow_calls_audio_duration_seconds", "", "step"), "{{step}}", true}}},
			{title: "Storage by result", unit: "reqps", queries: one(rate("convoflow_calls_bucket_duration_seconds_count", "", "step, result"), "{{step}} {{result}}")},
			{title: "Storage, 99th percentile", unit: "s", queries: []query{{p99("convoflow_calls_bucket_duration_seconds", "", "step"), "{{step}}", true}}},
			{title: "Recordings missing", description: "At the daily comparison.", unit: "short", single: true, red: 1, queries: one(`max(convoflow_calls_recordings_missing)`, "recordings")},
		}},
	}
	return board{id: "calls", title: "Convoflow: calls", description: "Recordings, transcripts and insights.", from: "now-1h", rows: slices.Concat(own, service("calls"), []row{jobs("calls"), process("calls")})}
}

func crm() board {
	own := row{"Analytics", []panel{{
		title: "Counts that were wrong", description: "At the daily comparison with all leads and calls.", unit: "short", single: true, red: 1, queries: one(`max(convoflow_crm_analytics_drift)`, "counts"),
	}}}
	return board{id: "crm", title: "Convoflow: crm", description: "Clients, leads and follow-ups.", from: "now-1h", rows: slices.Concat([]row{own}, service("crm"), []row{jobs("crm"), process("crm")})}
}

func notify() board {
	own := row{"Webhooks", deliveries()}
	return board{id: "notify", title: "Convoflow: notify", description: "Endpoints and deliveries.", from: "now-1h", rows: slices.Concat([]row{own}, service("notify"), []row{process("notify")})}
}

// business shows what the sales team and who pays want to know. Counts of operations are of requests that succeeded.
func business() board {
	day := func(expr string) string { return `sum(increase(` + expr + `[1d]))` }
	ok := func(ops ...string) string {
		return `convoflow_operations_total{op=~"` + strings.Join(ops, "|") + `",result="ok"}`
	}
	single := func(title, unit, expr string) panel {
		return panel{title: title, description: "In 24 hours.", unit: unit, single: true, queries: one(orZero(expr), title)}
	}
	return board{id: "business", title: "Convoflow: business", description: "What the platform does for the team, and what it costs.", from: "now-7d", rows: []row{
		{"Last 24 hours", []panel{
			single("Calls uploaded", "short", day(`convoflow_gateway_request_duration_seconds_count{op="gateway.calls.upload",status="2xx"}`)),
			single("Calls completed", "short", day(`convoflow_calls_attempts_total{status="completed"}`)),
			single("Hours of conversation", "h", day(`convoflow_calls_audio_seconds_total`)+" / 3600"),
			single("Leads received", "short", day(ok("crm.receive_lead", "crm.create_lead"))),
			single("Webhooks delivered", "short", day(deliveriesTotal+`{result="delivered"}`)),
			single("Cost of AI", "currencyUSD", day(`convoflow_calls_provider_cost_usd_total`)),
		}},
		{"Over time", []panel{
			{title: "Calls by outcome", description: "Per hour.", unit: "short", stacked: true, queries: one(`sum by (result) (increase(convoflow_calls_attempts_total{status=~"completed|failed"}[1h]))`, "{{result}}")},
			{title: "Conversation", description: "Seconds per hour.", unit: "s", queries: one(`sum(increase(convoflow_calls_audio_seconds_total[1h]))`, "speech")},
			{title: "Cost of AI", description: "US dollars per hour, of models whose price is known.", unit: "currencyUSD", stacked: true, queries: one(orZero(`sum by (model) (increase(convoflow_calls_provider_cost_usd_total[1h]))`), "{{model}}")},
			{title: "Work of the team", description: "Requests per hour.", unit: "short", queries: one(`sum by (op) (increase(`+ok("crm.create_client", "crm.create_followup.*", "crm.complete_followup", "crm.create_lead", "crm.convert_lead", "calls.upload")+`[1h]))`, "{{op}}")},
			{title: "Webhooks by outcome", description: "Per hour.", unit: "short", stacked: true, queries: one(`sum by (result) (increase(`+deliveriesTotal+`[1h]))`, "{{result}}")},
			{title: "Logins", description: "Per hour.", unit: "short", queries: one(`sum(increase(`+ok("auth.login")+`[1h]))`, "logins")},
		}},
	}}
}
