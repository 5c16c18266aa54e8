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

const (
	warmUp = time.Second
	// saturated is the share of a proxy's core that is busy when the proxy is the bottleneck.
	saturated = 0.95
)

// gatewayRate compares the requests per second of the gateway and nginx, with a core for the proxy alone and a cheap upstream: it
// measures the cost of the proxies themselves.
func gatewayRate(ctx context.Context, b *bench) (report.Result, error) {
	b.printf("gateway: requests/s with logs and traces on ÷ nginx proxy_pass to the same upstream, an nginx that responds from memory")
	return b.rate(ctx, "gateway", false)
}

// serviceRate is the same with a service as the upstream and all processes on all cores. It is easier than gatewayRate, which is
// the figure that counts; its floor is only for comparison.
func serviceRate(ctx context.Context, b *bench) (report.Result, error) {
	b.printf("service: the same with a trivial service in Go as the upstream, on all cores")
	shared := *b
	shared.layout = newLayout(1)
	return shared.rate(ctx, "service", true)
}

func (b *bench) rate(ctx context.Context, name string, service bool) (result report.Result, err error) {
	f, err := b.startFront(ctx, service)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	responses := 0 // of the gateway
	result = report.Result{Name: name, Peer: "nginx", Unit: "requests/s", Floor: 0.35, Goal: 0.60}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = b.fullLoad(ctx, f, f.gateway.Process, f.toGateway, &responses)
			return err
		}, func() (err error) {
			round.Peer, err = b.fullLoad(ctx, f, f.nginx.Process, f.toNginx, new(int))
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	err = b.profile(ctx, name, f.gateway.admin, func(d time.Duration) error {
		requests, _, err := f.wrk.Run(ctx, f.toGateway, d)
		responses += requests
		return err
	})
	if err != nil {
		return result, err
	}
	if err := f.gateway.Stop(); err != nil { // which sends its last spans
		return result, err
	}
	lines, spans := f.gateway.Lines(), f.sink.Spans()
	if len(b.Env) == 0 && (lines < int64(responses) || spans == 0) {
		return result, fmt.Errorf("the gateway wrote %d lines of log and sent %d spans for %d requests", lines, spans, responses)
	}
	result.Notes = append(result.Notes, fmt.Sprintf("per request it wrote %.2f lines of log, and %.2f spans arrived at the collector", float64(lines)/float64(responses), float64(spans)/float64(responses)))
	for _, round := range result.Rounds {
		if min(round.Ours.Core, round.Peer.Core) < saturated {
			result.Notes = append(result.Notes, "in some rounds a proxy's core was not busy: the proxy was not the bottleneck")
			break
		}
	}
	return result, nil
}

// fullLoad measures how many requests per second p handles at most. It adds the number of responses to responses.
func (b *bench) fullLoad(ctx context.Context, f *front, p *process.Process, t load.Target, responses *int) (report.Measure, error) {
	requests, _, err := f.wrk.Run(ctx, t, warmUp)
	if err != nil {
		return report.Measure{}, err
	}
	*responses += requests
	return observe(p, b.test, func() (int, time.Duration, error) {
		requests, took, err := f.wrk.Run(ctx, t, b.Length)
		*responses += requests
		return requests, took, err
	})
}
