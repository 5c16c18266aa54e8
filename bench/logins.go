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

// The parameters of a hash, as in services/auth/internal/password.
const (
	memory     = 19 * 1024 // KiB
	passes     = 2
	threads    = 1
	saltLength = 16 // bytes
	sumLength  = 32 // bytes
)

// logins compares the logins per second of auth with the hashes per second that all cores could compute. A login is a form with the
// correct password; the response has a session that PostgreSQL has stored on disk and a signed token.
func logins(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("logins: logins/s of auth with PostgreSQL and Kafka ÷ (cores ÷ one Argon2id hash on one core)")
	a, err := b.startAuth(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	b.printf("  registering %d accounts", accountCount)
	if err := a.register(ctx); err != nil {
		return result, err
	}
	result = report.Result{Name: "logins", Peer: "hashes", Unit: "logins/s", Floor: 0.80, Goal: 0.95}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
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
	result.Notes = append(result.Notes, "a login has the correct password and returns tokens; the CPU time is that of auth alone, and PostgreSQL and the load use the same cores")
	return result, b.profile(ctx, "auth", a.service.admin, func(d time.Duration) error {
		_, err := a.logIn(ctx, d)
		return err
	})
}

// hashes measures the hashes per second of one core and returns those of all cores.
func (b *bench) hashes(ctx context.Context) (m report.Measure, err error) {
	if err := b.test.Confine(); err != nil { // with the garbage collector, which is part of the cost
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
