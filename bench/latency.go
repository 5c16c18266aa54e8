package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
)

// minAdded is the smallest added latency that is used, µs: on a busy machine a direct request may once take longer.
const minAdded = 1

// gatewayLatency compares what the gateway and nginx add to the 99th percentile, at half of the gateway's full load.
func gatewayLatency(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("latency: p99 that the gateway adds at half its full load ÷ p99 that nginx adds at the same rate")
	f, err := b.startFront(ctx, false)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	full, err := b.fullLoad(ctx, f, f.gateway.Process, f.toGateway, new(int))
	if err != nil {
		return result, err
	}
	rate := int(full.Value / 2)
	b.printf("  the gateway handles %s requests/s, so %s are sent", report.Number(full.Value), report.Number(float64(rate)))

	at := func(p *process.Process, t load.Target, into *report.Measure) func() error {
		return func() (err error) {
			var p99 time.Duration
			*into, err = observe(p, b.test, func() (int, time.Duration, error) {
				p99, err = load.Steady(ctx, t, connections, rate, b.Length)
				return int(float64(rate) * b.Length.Seconds()), b.Length, err
			})
			into.Value = float64(p99.Microseconds())
			return err
		}
	}
	result = report.Result{Name: "latency", Peer: "nginx", Unit: "µs", Floor: 3, Goal: 1.5}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		round.Direct = &report.Measure{}
		if err := at(f.upstream.Process, f.toUpstream, round.Direct)(); err != nil {
			return round, err
		}
		err = alternate(oursFirst, at(f.gateway.Process, f.toGateway, &round.Ours), at(f.nginx.Process, f.toNginx, &round.Peer))
		added := func(m report.Measure) float64 { return max(minAdded, m.Value-round.Direct.Value) }
		round.Ratio = added(round.Ours) / added(round.Peer)
		return round, err
	})
	if err != nil {
		return result, err
	}
	var direct []float64
	for _, round := range result.Rounds {
		direct = append(direct, round.Direct.Value)
	}
	result.Notes = append(result.Notes, fmt.Sprintf("p99 at %s requests/s; without a proxy it is %s µs, which is subtracted from both",
		report.Number(float64(rate)), report.Number(report.Median(direct))))
	return result, nil
}
