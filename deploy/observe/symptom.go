package main

import (
	"fmt"
	"strings"
)

// withOutbox are the services that publish events, and all are those that are scraped. The label job is the name of the service.
const (
	withOutbox = "auth|calls|crm|notify"
	all        = "auth|calls|crm|notify|gateway"
)

type labels = map[string]string

// symptoms are the alerts on what can be seen to be wrong. Where it is possible they are about time, not about counts: an age means the
// same at every load. Their order is that of the runbook.
func symptoms() []alert {
	var list []alert
	for _, part := range [][]alert{processAlerts(), eventAlerts(), databaseAlerts(), gatewayAlerts(), authAlerts(), callsAlerts(), crmAlerts(), notifyAlerts()} {
		list = append(list, part...)
	}
	return list
}

func up(job string, value float64) series {
	return gauge(`up{job="`+job+`",instance="`+job+`:9090"}`, value)
}

func allUp() (list []series) {
	for job := range strings.SplitSeq(all, "|") {
		list = append(list, up(job, 1))
	}
	return list
}

func processAlerts() []alert {
	var missing []string
	for job := range strings.SplitSeq(all, "|") {
		missing = append(missing, `absent(up{job="`+job+`"})`)
	}
	return []alert{
		{
			name: "ServiceDown", severity: page, lasts: "2m", summary: "No replica of a service answers",
			expr:  `sum by (job) (up{job=~"` + all + `"}) == 0 or ` + strings.Join(missing, " or "),
			fires: append(allUp()[1:], up("auth", 0)), with: labels{"job": "auth"}, silent: allUp(),
		},
		{
			name: "ReplicaDown", severity: ticket, lasts: "10m", summary: "A replica of a service does not answer",
			expr:  `up{job=~"` + all + `"} == 0`,
			fires: []series{up("calls", 0)}, with: labels{"job": "calls", "instance": "calls:9090"}, silent: allUp(),
		},
		{
			name: "Restarts", severity: ticket, lasts: "0m", summary: "A service restarts again and again",
			expr:  `changes(process_start_time_seconds{job=~"` + all + `"}[30m]) > 3`,
			fires: []series{counter(`process_start_time_seconds{job="crm",instance="crm:9090"}`, 60)}, with: labels{"job": "crm", "instance": "crm:9090"},
			silent: []series{gauge(`process_start_time_seconds{job="crm",instance="crm:9090"}`, 1e9)},
		},
		{
			name: "MemoryNearLimit", severity: ticket, lasts: "10m", summary: "A process uses almost all memory that it may",
			// Without a limit GOMEMLIMIT is 2^63 - 1.
			expr:  `process_resident_memory_bytes / (go_gc_gomemlimit_bytes < 1e15) > 1.05`,
			fires: []series{gauge(`process_resident_memory_bytes{job="calls"}`, 1.1e9), gauge(`go_gc_gomemlimit_bytes{job="calls"}`, 1e9)}, with: labels{"job": "calls"},
			silent: []series{
				gauge(`process_resident_memory_bytes{job="calls"}`, 0.9e9), gauge(`go_gc_gomemlimit_bytes{job="calls"}`, 1e9),
				gauge(`process_resident_memory_bytes{job="crm"}`, 1e16), gauge(`go_gc_gomemlimit_bytes{job="crm"}`, 9.2e18),
			},
		},
	}
}

func eventAlerts() []alert {
	const outbox, lag = "convoflow_outbox_oldest_seconds", "convoflow_consumer_lag_seconds"
	const messages = "convoflow_consumer_messages_total"
	const topic = `service="crm",topic="calls.calls.v1"`
	return []alert{
		{
			name: "OutboxStuck", severity: page, lasts: "1m", summary: "Events are committed but not published to Kafka",
			expr:  `max by (service) (` + outbox + `) > 30`,
			fires: []series{gauge(outbox+`{service="calls"}`, 45)}, with: labels{"service": "calls"}, silent: []series{gauge(outbox+`{service="calls"}`, 5)},
		},
		{
			name: "OutboxWithoutLeader", severity: page, lasts: "2m", summary: "No replica of a service publishes its events",
			expr:   `sum by (job) (up{job=~"` + withOutbox + `"}) > 0 unless on (job) ` + outbox,
			fires:  []series{up("calls", 1), up("crm", 1), gauge(outbox+`{job="crm",service="crm"}`, 0)},
			with:   labels{"job": "calls"},
			silent: []series{up("calls", 1), up("crm", 0), gauge(outbox+`{job="calls",service="calls"}`, 0)},
		},
		{
			name: "ConsumerLag", severity: ticket, lasts: "5m", summary: "A service is more than a minute behind a topic",
			expr:  `max by (service, topic) (` + lag + `) > 60`,
			fires: []series{gauge(lag+`{`+topic+`}`, 90)}, with: labels{"service": "crm", "topic": "calls.calls.v1"}, silent: []series{gauge(lag+`{`+topic+`}`, 20)},
		},
		{
			name: "ConsumerStuck", severity: page, lasts: "2m", summary: "A service is behind a topic and makes no progress",
			expr:  `max by (service, topic) (` + lag + `) > 30 unless on (service, topic) sum by (service, topic) (rate(` + messages + `[2m])) > 0`,
			fires: []series{gauge(lag+`{`+topic+`}`, 90), gauge(messages+`{`+topic+`,result="handled"}`, 70)}, with: labels{"service": "crm", "topic": "calls.calls.v1"},
			silent: []series{
				gauge(lag+`{`+topic+`}`, 90), counter(messages+`{`+topic+`,result="handled"}`, 70), // behind, but it makes progress
				gauge(lag+`{service="crm",topic="auth.agents.v1"}`, 0), gauge(messages+`{service="crm",topic="auth.agents.v1",result="handled"}`, 3), // nothing to do
			},
		},
		{
			name: "ConsumerWaiting", severity: ticket, lasts: "5m", summary: "A service waits with events until something recovers",
			expr:  `max by (service) (convoflow_consumer_waiting_partitions) > 0`,
			fires: []series{gauge(`convoflow_consumer_waiting_partitions{service="crm"}`, 2)}, with: labels{"service": "crm"}, silent: []series{gauge(`convoflow_consumer_waiting_partitions{service="crm"}`, 0)},
		},
		{
			name: "DeadLetters", severity: ticket, lasts: "0m", summary: "An event could not be handled and is in the dead-letter topic",
			expr:  `sum by (service, topic) (increase(` + messages + `{result="dead"}[1h])) > 0`,
			fires: []series{{Series: messages + `{` + topic + `,result="dead"}`, Values: "0+0x170 1+0x400"}}, with: labels{"service": "crm", "topic": "calls.calls.v1"},
			silent: []series{gauge(messages+`{`+topic+`,result="dead"}`, 1), counter(messages+`{`+topic+`,result="handled"}`, 10)},
		},
	}
}

func databaseAlerts() []alert {
	const wait, transaction, due = "pgxpool_empty_acquire_wait_time_ns", "convoflow_database_oldest_transaction_seconds", "convoflow_jobs_oldest_due_seconds"
	return []alert{
		{
			name: "PoolExhausted", severity: page, lasts: "5m", summary: "Requests wait for a connection to the database",
			// The seconds that all requests wait in each second are how many wait on average.
			expr:  `sum by (service) (rate(` + wait + `[5m])) / 1e9 > 2`,
			fires: []series{counter(wait+`{service="crm"}`, 5*60e9)}, with: labels{"service": "crm"}, silent: []series{counter(wait+`{service="crm"}`, 60e9)},
		},
		{
			name: "OldTransaction", severity: ticket, lasts: "1m", summary: "A transaction has been open for minutes",
			expr:  `max by (service) (` + transaction + `) > 120`,
			fires: []series{gauge(transaction+`{service="crm"}`, 300)}, with: labels{"service": "crm"}, silent: []series{gauge(transaction+`{service="crm"}`, 20)},
		},
		{
			name: "JobsWaiting", severity: ticket, lasts: "10m", summary: "Jobs are due and nobody fetches them",
			expr:  `max by (service, kind) (` + due + `{kind!="calls.transcribe"}) > 300`, // CallsWaiting is about those
			fires: []series{gauge(due+`{service="crm",kind="crm.import"}`, 900)}, with: labels{"service": "crm", "kind": "crm.import"},
			silent: []series{gauge(due+`{service="crm",kind="crm.import"}`, 100), gauge(due+`{service="calls",kind="calls.transcribe"}`, 900)},
		},
	}
}

func gatewayAlerts() []alert {
	const refused, limited = "convoflow_gateway_upstream_refused_total", "convoflow_gateway_rate_limited_total"
	return []alert{
		{
			name: "UpstreamRefused", severity: page, lasts: "5m", summary: "The gateway refuses requests because a service is overloaded or fails",
			expr:  `sum by (upstream, reason) (rate(` + refused + `[5m])) > 0.1`,
			fires: []series{counter(refused+`{upstream="crm",reason="overloaded"}`, 60)}, with: labels{"upstream": "crm", "reason": "overloaded"},
			silent: []series{counter(refused+`{upstream="crm",reason="overloaded"}`, 1)},
		},
		{
			name: "RateLimited", severity: ticket, lasts: "15m", summary: "Many requests are refused because of their rate",
			expr:  `sum by (class, by) (rate(` + limited + `[15m])) > 1`,
			fires: []series{counter(limited+`{class="inbound",by="address"}`, 120)}, with: labels{"class": "inbound", "by": "address"},
			silent: []series{counter(limited+`{class="inbound",by="address"}`, 6)},
		},
	}
}

func authAlerts() []alert {
	const logins, key, stale = "convoflow_operations_total", "convoflow_auth_signing_key_remaining_seconds", "convoflow_watcher_stale_seconds"
	return []alert{
		{
			name: "LoginsRefused", severity: ticket, lasts: "15m", summary: "Most logins are refused: somebody guesses passwords, or people cannot log in",
			expr: `sum(rate(` + logins + `{op="auth.login",result!="ok"}[15m])) > 0.2 and sum(rate(` + logins + `{op="auth.login",result!="ok"}[15m])) > 0.5 * sum(rate(` + logins + `{op="auth.login"}[15m]))`,
			fires: []series{
				counter(logins+`{service="auth",op="auth.login",result="invalid_credentials"}`, 60), counter(logins+`{service="auth",op="auth.login",result="ok"}`, 10),
			},
			silent: []series{
				counter(logins+`{service="auth",op="auth.login",result="invalid_credentials"}`, 60), counter(logins+`{service="auth",op="auth.login",result="ok"}`, 100),
			},
		},
		{
			name: "SigningKeyOverdue", severity: ticket, lasts: "15m", summary: "The key that signs tokens is not replaced by the next one",
			expr:  `max(` + key + `) < -3600`,
			fires: []series{gauge(key+`{job="auth"}`, -7200)}, silent: []series{gauge(key+`{job="auth"}`, 86400)},
		},
		{
			name: "SessionsStale", severity: page, lasts: "5m", summary: "A process does not learn from Kafka which sessions have ended; it asks auth instead",
			expr:  `max by (service, topic) (` + stale + `) > 60`,
			fires: []series{gauge(stale+`{service="gateway",topic="auth.agents.v1"}`, 300)}, with: labels{"service": "gateway", "topic": "auth.agents.v1"},
			silent: []series{gauge(stale+`{service="gateway",topic="auth.agents.v1"}`, 2)},
		},
	}
}

func callsAlerts() []alert {
	const oldest, attempts, model, quota = "convoflow_calls_oldest_unfinished_seconds", "convoflow_calls_attempts_total", "convoflow_calls_model_remaining_seconds", "convoflow_calls_provider_out_of_quota"
	const repeated, recordings, bucket = "convoflow_calls_requests_repeated_total", "convoflow_calls_recordings_missing", "convoflow_calls_bucket_duration_seconds_count"
	return []alert{
		{
			name: "CallsWaiting", severity: page, lasts: "5m", summary: "Uploaded calls wait for a worker",
			expr:  `max(` + oldest + `{status="pending"}) > 600`,
			fires: []series{gauge(oldest+`{status="pending"}`, 1200)}, silent: []series{gauge(oldest+`{status="pending"}`, 60), gauge(oldest+`{status="transcribing"}`, 900)},
		},
		{
			name: "TranscriptionStuck", severity: page, lasts: "5m", summary: "A call has been in transcription for longer than an attempt may take",
			expr:  `max(` + oldest + `{status="transcribing"}) > 3600`,
			fires: []series{gauge(oldest+`{status="transcribing"}`, 7200)}, silent: []series{gauge(oldest+`{status="transcribing"}`, 900), gauge(oldest+`{status="pending"}`, 9000)},
		},
		{
			name: "CallsFailing", severity: page, lasts: "10m", summary: "Many calls fail",
			expr: `sum(rate(` + attempts + `{status="failed"}[30m])) / sum(rate(` + attempts + `{status=~"completed|failed"}[30m])) > 0.1`,
			fires: []series{
				counter(attempts+`{status="failed",result="provider_rejected"}`, 2), counter(attempts+`{status="completed",result="ok"}`, 5),
			},
			silent: []series{
				counter(attempts+`{status="failed",result="audio_unreadable"}`, 1), counter(attempts+`{status="completed",result="ok"}`, 50), counter(attempts+`{status="transcribing",result="timeout"}`, 50),
			},
		},
		{
			name: "ProviderOutOfQuota", severity: page, lasts: "5m", summary: "The account at an AI provider is used up",
			expr:  `max by (provider) (` + quota + `) == 1`,
			fires: []series{gauge(quota+`{provider="chat"}`, 1)}, with: labels{"provider": "chat"}, silent: []series{gauge(quota+`{provider="chat"}`, 0)},
		},
		{
			name: "ModelRetires", severity: ticket, lasts: "1h", summary: "The configured model ends within 30 days",
			expr:  `min by (provider) (` + model + `) < 30 * 86400`,
			fires: []series{gauge(model+`{provider="chat"}`, 20*86400)}, with: labels{"provider": "chat"}, silent: []series{gauge(model+`{provider="chat"}`, 50*86400)},
		},
		{
			name: "ProviderRequestsRepeated", severity: ticket, lasts: "0m", summary: "Requests to an AI provider are sent, and perhaps paid for, twice",
			expr:  `sum by (step) (increase(` + repeated + `[1h])) > 5`,
			fires: []series{counter(repeated+`{step="transcribe"}`, 1)}, with: labels{"step": "transcribe"},
			silent: []series{{Series: repeated + `{step="transcribe"}`, Values: "0+0x170 2+0x400"}}, // after a crash
		},
		{
			name: "StorageFailing", severity: page, lasts: "5m", summary: "The storage of recordings does not answer",
			expr: `sum(rate(` + bucket + `{result="storage_unavailable"}[5m])) > 0`,
			fires: []series{
				counter(bucket+`{step="store",result="storage_unavailable"}`, 1), counter(bucket+`{step="store",result="ok"}`, 10),
			},
			silent: []series{counter(bucket+`{step="store",result="ok"}`, 10), counter(bucket+`{step="open",result="audio_not_found"}`, 10)},
		},
		{
			name: "RecordingsMissing", severity: page, lasts: "0m", summary: "Recordings of calls are not in the storage",
			expr:  `max(` + recordings + `) > 0`,
			fires: []series{gauge(recordings, 3)}, silent: []series{gauge(recordings, 0)},
		},
	}
}

func crmAlerts() []alert {
	const drift = "convoflow_crm_analytics_drift"
	return []alert{{
		name: "AnalyticsDrift", severity: ticket, lasts: "0m", summary: "Counts of analytics were wrong; they are corrected",
		expr:  `max(` + drift + `) > 0`,
		fires: []series{gauge(drift, 4)}, silent: []series{gauge(drift, 0)},
	}}
}

// schedule is the longest time that a delivery may be open: the sum of its waits, with jitter.
const schedule = 80 * 3600 // seconds

func notifyAlerts() []alert {
	const retrying, held = `convoflow_notify_oldest_delivery_seconds{status="retrying"}`, `convoflow_notify_oldest_delivery_seconds{status="held"}`
	return []alert{
		{
			name: "DeliveryNeverEnds", severity: page, lasts: "10m", summary: "A webhook is neither delivered nor dead after its last attempt is due",
			expr:  fmt.Sprintf(`max(%s) > %d`, oldestOpen, schedule),
			fires: []series{gauge(retrying, 100*3600)}, silent: []series{gauge(retrying, 60*3600), gauge(held, 1000*3600)},
		},
		{
			name: "DeliveriesFailing", severity: ticket, lasts: "15m", summary: "Most attempts to deliver webhooks fail",
			expr: `sum(rate(` + deliveriesTotal + `{result!="delivered"}[15m])) > 0.5 * sum(rate(` + deliveriesTotal + `[15m]))`,
			fires: []series{
				counter(deliveriesTotal+`{result="retrying"}`, 10), counter(deliveriesTotal+`{result="delivered"}`, 2),
			},
			silent: []series{counter(deliveriesTotal+`{result="retrying"}`, 10), counter(deliveriesTotal+`{result="delivered"}`, 200)},
		},
		{
			name: "DeliveriesDead", severity: ticket, lasts: "0m", summary: "Webhooks are given up",
			expr:  `sum(increase(` + deliveriesTotal + `{result="dead"}[1h])) > 0`,
			fires: []series{counter(deliveriesTotal+`{result="dead"}`, 1)}, silent: []series{gauge(deliveriesTotal+`{result="dead"}`, 7), counter(deliveriesTotal+`{result="delivered"}`, 10)},
		},
		{
			name: "EndpointDisabled", severity: ticket, lasts: "5m", summary: "A webhook endpoint is disabled because it failed for days or answered 410",
			expr:  `max(` + endpointsDisabled + `) > 0`,
			fires: []series{gauge(endpointsDisabled, 1)}, silent: []series{gauge(endpointsDisabled, 0)},
		},
		{
			name: "EventsUnreconciled", severity: page, lasts: "10m", summary: "Events that match an endpoint have no delivery",
			expr:  `max(` + withoutDelivery + `) > 0`,
			fires: []series{gauge(withoutDelivery, 2)}, silent: []series{gauge(withoutDelivery, 0)},
		},
	}
}
