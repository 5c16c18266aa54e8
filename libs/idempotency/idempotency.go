// Package idempotency executes a request with an Idempotency-Key only once. It stores the key and the response in the
// transaction of the change, so that a client that did not receive the response can repeat the request and gets the same
// response. It owns the table idempotency, and refuses requests without a caller.
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

// Migrations creates the table idempotency.
func Migrations() pg.Migrations { return pg.Embedded("idempotency", files) }

const (
	retention    = 24 * time.Hour // as documented in the HTTP contract
	maxKeyLength = 255            // characters
)

// Store stores the responses of one service by their idempotency keys. It is safe for concurrent use.
type Store struct{ db *pg.DB }

// New returns the Store in the service's schema db.
func New(db *pg.DB) *Store { return &Store{db} }

// Once runs do in a transaction and stores its response. For 24 hours, the same key, agent and operation get the stored response
// without running do again; with a different fingerprint they get a Conflict fault. A concurrent request with the same key
// waits for the first. If do fails, nothing is stored and the key can be used again. Once fails with an Unauthenticated fault
// if ctx has no caller, and with an Invalid fault for a key that is not UTF-8 or longer than 255 characters.
func (s *Store) Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxKeyLength {
		return nil, fault.Fields(fault.Field{Type: "value_error", Loc: []any{"header", "Idempotency-Key"}, Msg: fmt.Sprintf("String should be UTF-8 with at most %d characters", maxKeyLength)})
	}
	sum := sha256.Sum256(fingerprint)
	var answer json.RawMessage
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		// The insert replaces an expired row. It waits for a concurrent transaction with the same key.
		tag, err := conn.Exec(ctx, `
			insert into idempotency as i (agent_id, operation, key, fingerprint) values ($1, $2, $3, $4)
			on conflict (agent_id, operation, key) do update set fingerprint = excluded.fingerprint, answer = null, created_at = now()
			where i.created_at < now() - $5::interval`, caller.AgentID, operation, key, sum[:], retention)
		if err != nil {
			return fmt.Errorf("insert the idempotency key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			answer, err = s.stored(ctx, caller.AgentID, operation, key, sum[:])
			return err
		}
		if answer, err = do(ctx); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, `update idempotency set answer = $4 where agent_id = $1 and operation = $2 and key = $3`, caller.AgentID, operation, key, []byte(answer)); err != nil {
			return fmt.Errorf("store the response of an idempotency key: %w", err)
		}
		return nil
	})
	return answer, err
}

func (s *Store) stored(ctx context.Context, agentID, operation, key string, sum []byte) (json.RawMessage, error) {
	var before, answer []byte
	err := s.db.Conn(ctx).QueryRow(ctx, `select fingerprint, answer from idempotency where agent_id = $1 and operation = $2 and key = $3`, agentID, operation, key).Scan(&before, &answer)
	if err != nil {
		return nil, fmt.Errorf("read the response of an idempotency key: %w", err)
	}
	if subtle.ConstantTimeCompare(before, sum) != 1 {
		return nil, fault.New(fault.Conflict, "idempotency_key_reused", "This Idempotency-Key was used for another request: make a new one for each thing you create")
	}
	return answer, nil
}

// Sweep returns the actor that deletes responses older than 24 hours, once an hour.
func (s *Store) Sweep(tel telemetry.Set) run.Actor {
	return run.Every(time.Hour, tel, "delete old idempotency keys", func(ctx context.Context) error {
		_, err := s.db.Conn(ctx).Exec(ctx, `delete from idempotency where created_at < now() - $1::interval`, retention)
		return err
	})
}

// Forget deletes the stored responses that name one of the ids, in the transaction of ctx: they show a person whose data is erased. A
// repeated request then runs again.
func (s *Store) Forget(ctx context.Context, ids ...string) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `delete from idempotency i where exists (select from unnest($1::text[]) id where position(id in i.answer::text) > 0)`, ids)
	if err != nil {
		return fmt.Errorf("delete the responses about an erased person: %w", err)
	}
	return nil
}
