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
	// saturated is the share of its core that is busy when a proxy is the limit, and nothing around it.
	saturated = 0.95
)

// gatewayRate is the requests per second of the gateway ÷ those of nginx, with a core for the proxy alone and next to
// nothing behind it: what the proxies themselves cost.
func gatewayRate(ctx context.Context, b *bench) (report.Result, error) {
	b.say("gateway: requests/s with everything on ÷ nginx proxy_pass to the same upstream, an nginx that answers from memory")
	return b.rate(ctx, "gateway", false)
}

// serviceRate is the same before a service, where all of them share the machine. It is easier, and held to the same floor
// only for comparison: gateway is the figure that counts.
func serviceRate(ctx context.Context, b *bench) (report.Result, error) {
	b.say("service: the same before a service in Go that has nothing to do, on all cores")
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
	answered := 0 // by the gateway
	result = report.Result{Name: name, Peer: "nginx", Unit: "requests/s", Floor: 0.35, Goal: 0.60}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = inTurn(oursFirst, func() (err error) {
			round.Ours, err = b.fullLoad(ctx, f, f.gateway.Process, f.toGateway, &answered)
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
		answered += requests
		return err
	})
	if err != nil {
		return result, err
	}
	if err := f.gateway.Stop(); err != nil { // it sends its last spans
		return result, err
	}
	lines, spans := f.gateway.Lines(), f.sink.Spans()
	if len(b.Env) == 0 && (lines < int64(answered) || spans == 0) {
		return result, fmt.Errorf("the gateway wrote %d lines of log and sent %d spans for %d requests", lines, spans, answered)
	}
	result.Notes = append(result.Notes, fmt.Sprintf("per request it wrote %.2f lines of log, and %.2f spans arrived at the collector", float64(lines)/float64(answered), float64(spans)/float64(answered)))
	for _, round := range result.Rounds {
		if min(round.Ours.Core, round.Peer.Core) < saturated {
			result.Notes = append(result.Notes, "in some round a proxy's core had time to spare: what is around it was the limit")
			break
		}
	}
	return result, nil
}

// fullLoad is how many requests per second p answers when it gets as many as it can take. It adds their number to answered.
func (b *bench) fullLoad(ctx context.Context, f *front, p *process.Process, t load.Target, answered *int) (report.Measure, error) {
	requests, _, err := f.wrk.Run(ctx, t, warmUp)
	if err != nil {
		return report.Measure{}, err
	}
	*answered += requests
	return observe(p, b.test, func() (int, time.Duration, error) {
		requests, took, err := f.wrk.Run(ctx, t, b.Length)
		*answered += requests
		return requests, took, err
	})
}
