package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
)

// The cost of a hash, as in services/auth/internal/password.
const (
	memory     = 19 * 1024 // KiB
	passes     = 2
	threads    = 1
	saltLength = 16 // bytes
	sumLength  = 32 // bytes
)

// logins is the logins per second of auth ÷ the hashes per second that all cores could make. A login is a right password,
// sent as the form and answered with a session that PostgreSQL has on its disk and a signed token.
func logins(ctx context.Context, b *bench) (result report.Result, err error) {
	b.say("logins: logins/s of auth with PostgreSQL and Kafka ÷ (cores ÷ one Argon2id hash on one core)")
	a, err := b.startAuth(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	b.say("  registering %d accounts", accountCount)
	if err := a.register(ctx); err != nil {
		return result, err
	}
	result = report.Result{Name: "logins", Peer: "hashes", Unit: "logins/s", Floor: 0.80, Goal: 0.95}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = inTurn(oursFirst, func() (err error) {
			round.Ours, err = a.logIn(ctx, b.Length)
			return err
		}, func() (err error) {
			round.Peer, err = b.hashes(ctx)
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	result.Notes = append(result.Notes, "a login is a right password that was answered with tokens; the CPU is that of auth alone, PostgreSQL and the load share the cores")
	return result, b.profile(ctx, "auth", a.service.admin, func(d time.Duration) error {
		_, err := a.logIn(ctx, d)
		return err
	})
}

// hashes is how many hashes per second all cores could make, by what one of them makes.
func (b *bench) hashes(ctx context.Context) (m report.Measure, err error) {
	if err := b.test.Confine(); err != nil { // the collector of garbage too: it is part of the cost
		return m, err
	}
	defer func() { err = errors.Join(err, process.Any.Confine()) }()
	salt, password := make([]byte, saltLength), []byte(rand.Text())
	m, err = observe(process.Self{}, b.test, func() (n int, took time.Duration, err error) {
		watch := clock.Stopwatch()
		for ; watch() < b.Length && ctx.Err() == nil; n++ {
			argon2.IDKey(password, salt, passes, memory, threads, sumLength)
		}
		return n, watch(), ctx.Err()
	})
	m.Value *= float64(runtime.NumCPU())
	return m, err
}
