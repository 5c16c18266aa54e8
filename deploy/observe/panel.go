package main

// The panels that several dashboards share.

// p99 is the 99th percentile of a histogram by labels.
func p99(histogram, selector, by string) string {
	return `histogram_quantile(0.99, sum by (` + by + `, le) (rate(` + histogram + `_bucket{` + selector + `}[$__rate_interval])))`
}

// rate is the rate of a counter by labels.
func rate(counter, selector, by string) string {
	return `sum by (` + by + `) (rate(` + counter + `{` + selector + `}[$__rate_interval]))`
}

// orZero shows 0 instead of nothing, for what has no series before it happens for the first time.
func orZero(expr string) string { return expr + ` or vector(0)` }

func one(expr, legend string) []query { return []query{{expr: expr, legend: legend}} }

// operations are rate, errors and duration of the operations of a service: requests, events and jobs.
func operations(service string) row {
	selector := `service="` + service + `"`
	const duration = "convoflow_operation_duration_seconds"
	return row{"Operations: requests, events (on …) and jobs", []panel{
		{title: "Rate by operation", unit: "reqps", stacked: true, queries: one(operationsRate+`{`+selector+`}`, "{{op}}")},
		{title: "Not ok by result", description: "Codes are explained in docs/errors.md.", unit: "reqps", queries: one(orZero(notOKRate+`{`+selector+`}`), "{{op}} {{result}}")},
		{title: "Duration, 99th percentile", unit: "s", queries: []query{{p99(duration, selector, "op"), "{{op}}", true}}},
	}}
}

// events are what a service publishes and consumes.
func events(service string) row {
	selector := `service="` + service + `"`
	return row{"Events", []panel{
		{title: "Outbox: age of the oldest event", description: "Committed and not on Kafka yet.", unit: "s", queries: one(`max(convoflow_outbox_oldest_seconds{`+selector+`})`, "oldest")},
		{title: "Lag behind the topics", description: "Age of the oldest message that is not handled.", unit: "s", queries: one(`max by (topic) (convoflow_consumer_lag_seconds{`+selector+`})`, "{{topic}}")},
		{title: "From the change to the effect, 99th percentile", unit: "s", queries: []query{{p99("convoflow_consumer_delay_seconds", selector, "topic"), "{{topic}}", true}}},
		{title: "Messages by result", unit: "cps", stacked: true, queries: one(rate("convoflow_consumer_messages_total", selector, "topic, result"), "{{topic}} {{result}}")},
		{title: "Dead letters", description: "In the last hour.", unit: "short", queries: one(`sum by (topic) (increase(convoflow_consumer_messages_total{`+selector+`,result="dead"}[1h]))`, "{{topic}}")},
		{title: "Published", unit: "cps", queries: one(rate("convoflow_outbox_published_total", selector, "service"), "events")},
	}}
}

// database is the connection of a service to PostgreSQL.
func database(service string) row {
	selector := `service="` + service + `"`
	return row{"Database", []panel{
		{title: "Connections", unit: "short", queries: []query{
			{expr: `sum(pgxpool_acquired_conns{` + selector + `})`, legend: "in use"}, {expr: `sum(pgxpool_idle_conns{` + selector + `})`, legend: "idle"}, {expr: `sum(pgxpool_max_conns{` + selector + `})`, legend: "maximum"},
		}},
		{title: "Waiting for a connection", description: "How many wait on average.", unit: "short", queries: one(`sum(rate(pgxpool_empty_acquire_wait_time_ns{`+selector+`}[$__rate_interval])) / 1e9`, "waiting")},
		{title: "Oldest transaction", unit: "s", queries: one(`max(convoflow_database_oldest_transaction_seconds{`+selector+`})`, "age")},
	}}
}

// jobs are the queues of a service.
func jobs(service string) row {
	selector := `service="` + service + `"`
	return row{"Jobs", []panel{
		{title: "Jobs by kind and state", unit: "short", queries: one(`max by (kind, state) (convoflow_jobs{`+selector+`})`, "{{kind}} {{state}}")},
		{title: "Oldest job that is due", unit: "s", queries: one(`max by (kind) (convoflow_jobs_oldest_due_seconds{`+selector+`})`, "{{kind}}")},
	}}
}

// process is the Go runtime of a service.
func process(job string) row {
	selector := `job="` + job + `"`
	return row{"Process", []panel{
		{title: "CPU", description: "Cores.", unit: "short", queries: one(`sum by (instance) (rate(process_cpu_seconds_total{`+selector+`}[$__rate_interval]))`, "{{instance}}")},
		{title: "Memory", unit: "bytes", queries: []query{{expr: `process_resident_memory_bytes{` + selector + `}`, legend: "resident {{instance}}"}, {expr: `go_memstats_heap_inuse_bytes{` + selector + `}`, legend: "heap {{instance}}"}}},
		{title: "Goroutines", unit: "short", queries: one(`go_goroutines{`+selector+`}`, "{{instance}}")},
		{title: "Garbage collector", description: "Share of a core.", unit: "percentunit", queries: one(`sum by (instance) (rate(go_cpu_classes_gc_total_cpu_seconds_total{`+selector+`}[$__rate_interval]))`, "{{instance}}")},
		{title: "Waiting for a CPU, 99th percentile", description: "How long goroutines that could run wait.", unit: "s", queries: one(p99("go_sched_latencies_seconds", selector, "instance"), "{{instance}}")},
		{title: "Version", unit: "short", queries: one(`count by (version) (convoflow_build_info{`+selector+`})`, "{{version}}")},
	}}
}

// service are the rows that the four services share.
func service(name string) []row {
	return []row{operations(name), events(name), database(name)}
}
