package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// keys implements key.Store on the table signing_keys.
type keys struct{ db *pg.DB }

// Keys returns the store of the signing keys.
func Keys(db *pg.DB) key.Store { return keys{db} }

// Change passes all keys to fn, oldest first, and stores exactly those that fn returns. It locks the whole table: one of
// several replicas creates or rotates the keys, and the others find them.
func (s keys) Change(ctx context.Context, fn func(keys []key.Key) ([]key.Key, error)) (changed []key.Key, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		if _, err := conn.Exec(ctx, `lock table signing_keys in share row exclusive mode`); err != nil {
			return fmt.Errorf("lock the signing keys: %w", err)
		}
		rows, err := conn.Query(ctx, `select kid, state, public, sealed, created_at, since, token_ttl from signing_keys order by created_at, kid`)
		if err != nil {
			return fmt.Errorf("read the signing keys: %w", err)
		}
		before, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key.Key])
		if err != nil {
			return fmt.Errorf("read the signing keys: %w", err)
		}
		if changed, err = fn(before); err != nil {
			return err
		}
		return s.save(ctx, before, changed)
	})
	return changed, err
}

// save writes only the changes.
func (s keys) save(ctx context.Context, before, after []key.Key) error {
	batch := &pgx.Batch{}
	for _, k := range before {
		if !slices.ContainsFunc(after, func(other key.Key) bool { return other.ID == k.ID }) {
			batch.Queue(`delete from signing_keys where kid = $1`, k.ID)
		}
	}
	// Oldest first: one key stops signing before the next one begins, because the index allows only one.
	for _, k := range after {
		if slices.ContainsFunc(before, func(old key.Key) bool { return reflect.DeepEqual(old, k) }) {
			continue
		}
		batch.Queue(`
			insert into signing_keys (kid, state, public, sealed, created_at, since, token_ttl) values ($1, $2, $3, $4, $5, $6, $7)
			on conflict (kid) do update set state = excluded.state, sealed = excluded.sealed, since = excluded.since, token_ttl = excluded.token_ttl`,
			k.ID, k.State, k.Public, k.Sealed, k.CreatedAt, k.Since, k.TokenTTL)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := s.db.Conn(ctx).SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("save the signing keys: %w", err)
	}
	return nil
}
