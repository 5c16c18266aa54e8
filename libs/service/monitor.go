package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	monitorEvery   = 10 * time.Second
	monitorTimeout = 5 * time.Second
)

// monitor measures what only the database knows about a service. While the database does not answer, its metrics are absent: an
// old value would look like a good one.
type monitor struct {
	db          *pg.DB
	jobs        *job.Queue
	transaction *prometheus.GaugeVec
	count, age  *prometheus.GaugeVec
}

// newMonitor registers the metrics and returns the actor that sets them.
func newMonitor(b *Base) (run.Actor, error) {
	labels := prometheus.Labels{"service": b.Name}
	m := &monitor{
		db: b.DB, jobs: b.Jobs,
		transaction: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_database_oldest_transaction_seconds", Help: "Age of the oldest open transaction of the service in the database, of all replicas.", ConstLabels: labels}, nil),
		count: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_jobs", Help: "Jobs that have not ended, by kind and state: available (due), scheduled, retryable, running. Of all replicas.", ConstLabels: labels}, []string{"kind", "state"}),
		age: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "convoflow_jobs_oldest_due_seconds", Help: "For how long the oldest job has been due without being fetched, by kind. Of all replicas.", ConstLabels: labels}, []string{"kind"}),
	}
	if err := register(b.Tel, m.transaction, m.count, m.age); err != nil {
		return nil, err
	}
	return run.Every(monitorEvery, b.Tel, "measure the database", m.measure), nil
}

func register(tel telemetry.Set, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := tel.Metrics.Register(c); err != nil {
			return fmt.Errorf("register the metrics of the database: %w", err)
		}
	}
	return nil
}

func (m *monitor) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	m.transaction.Reset()
	m.count.Reset()
	m.age.Reset()
	return errors.Join(m.measureTransactions(ctx), m.measureJobs(ctx))
}

func (m *monitor) measureTransactions(ctx context.Context) error {
	oldest, err := m.db.OldestTransaction(ctx)
	if err != nil {
		return err
	}
	m.transaction.WithLabelValues().Set(oldest.Seconds())
	return nil
}

func (m *monitor) measureJobs(ctx context.Context) error {
	if m.jobs.Empty() {
		return nil
	}
	found, err := m.jobs.Backlog(ctx)
	if err != nil {
		return err
	}
	for _, b := range found {
		m.count.WithLabelValues(string(b.Kind), b.State).Set(float64(b.Count))
		if b.State == job.Available {
			m.age.WithLabelValues(string(b.Kind)).Set(b.OldestDue.Seconds())
		}
	}
	return nil
}
