// Package meter turns the comparison of analytics into a metric and a log line.
package meter

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// Drift returns what reports how many counts of analytics were wrong. The metric is 0 until the first comparison.
func Drift(tel telemetry.Set) (func(ctx context.Context, wrong int), error) {
	drift := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "convoflow_crm_analytics_drift", Help: "Counts of analytics that the last comparison with the leads and calls found wrong. They were corrected."})
	if err := tel.Metrics.Register(drift); err != nil {
		return nil, fmt.Errorf("register the metric of analytics: %w", err)
	}
	return func(ctx context.Context, wrong int) {
		drift.Set(float64(wrong))
		if wrong > 0 {
			tel.Log.WarnContext(ctx, "counts of analytics were wrong and are corrected", "wrong", wrong)
		}
	}, nil
}
