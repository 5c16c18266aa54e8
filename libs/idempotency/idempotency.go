// Package idempotency makes a request that carries an Idempotency-Key happen once: the key, the change and the answer are
// one transaction, so a client that lost the answer can ask again and gets the same one.
package idempotency

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the table idempotency.
func Migrations() pg.Migrations { return pg.Embedded("idempotency", files) }

const (
	keep         = 24 * time.Hour // as the HTTP contract promises
	maxKeyLength = 255            // characters
)

// Keeper remembers the answers of one service.
type Keeper struct{ db *pg.DB }

// New makes the keeper of the service whose schema db is.
func New(db *pg.DB) *Keeper { return &Keeper{db} }

// Once runs do in a transaction and keeps what it answers. The same key of the same agent for the same operation within 24
// hours gives that answer again; with another fingerprint it is a Conflict fault. A second request that comes while the
// first still runs waits for it. When do fails nothing is kept.
func (k *Keeper) Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxKeyLength {
		return nil, fault.Fields(fault.Field{Type: "value_error", Loc: []any{"header", "Idempotency-Key"}, Msg: fmt.Sprintf("String should be UTF-8 with at most %d characters", maxKeyLength)})
	}
	sum := sha256.Sum256(fingerprint)
	var answer json.RawMessage
	err = k.db.InTx(ctx, func(ctx context.Context) error {
		conn := k.db.Conn(ctx)
		// An expired row is taken over; a fresh one is left alone, and the insert then waits for its transaction.
		tag, err := conn.Exec(ctx, `
			insert into idempotency as i (agent_id, operation, key, fingerprint) values ($1, $2, $3, $4)
			on conflict (agent_id, operation, key) do update set fingerprint = excluded.fingerprint, answer = null, created_at = now()
			where i.created_at < now() - $5::interval`, caller.AgentID, operation, key, sum[:], keep)
		if err != nil {
			return fmt.Errorf("take the idempotency key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			answer, err = k.again(ctx, caller.AgentID, operation, key, sum[:])
			return err
		}
		if answer, err = do(ctx); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `update idempotency set answer = $4 where agent_id = $1 and operation = $2 and key = $3`, caller.AgentID, operation, key, []byte(answer)); err != nil {
			return fmt.Errorf("keep the answer of an idempotency key: %w", err)
		}
		return nil
	})
	return answer, err
}

func (k *Keeper) again(ctx context.Context, agentID, operation, key string, sum []byte) (json.RawMessage, error) {
	var before, answer []byte
	err := k.db.Conn(ctx).QueryRow(ctx, `select fingerprint, answer from idempotency where agent_id = $1 and operation = $2 and key = $3`, agentID, operation, key).Scan(&before, &answer)
	if err != nil {
		return nil, fmt.Errorf("read the answer of an idempotency key: %w", err)
	}
	if subtle.ConstantTimeCompare(before, sum) != 1 {
		return nil, fault.New(fault.Conflict, "idempotency_key_reused", "This Idempotency-Key was used for another request: make a new one for each thing you create")
	}
	return answer, nil
}

// Sweep forgets old answers as an actor.
func (k *Keeper) Sweep(tel telemetry.Set) run.Actor {
	return run.Every(time.Hour, tel, "forget old idempotency keys", func(ctx context.Context) error {
		_, err := k.db.Conn(ctx).Exec(ctx, `delete from idempotency where created_at < now() - $1::interval`, keep)
		return err
	})
}
