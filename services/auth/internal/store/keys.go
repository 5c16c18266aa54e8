package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// Keys is the table signing_keys.
type Keys struct{ db *pg.DB }

// NewKeys makes the store of the signing keys in db.
func NewKeys(db *pg.DB) *Keys { return &Keys{db} }

// Change gives all keys to fn, oldest first, keeps those that fn adds and returns all. The whole table is locked meanwhile:
// of several replicas that start at once one makes the keys and the others find them.
func (s *Keys) Change(ctx context.Context, fn func(keys []key.Key) ([]key.Key, error)) (keys []key.Key, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		if _, err := conn.Exec(ctx, `lock table signing_keys in share row exclusive mode`); err != nil {
			return fmt.Errorf("lock the signing keys: %w", err)
		}
		rows, err := conn.Query(ctx, `select kid, state, public, sealed, created_at from signing_keys order by created_at, kid`)
		if err != nil {
			return fmt.Errorf("read the signing keys: %w", err)
		}
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[key.Key])
		if err != nil {
			return fmt.Errorf("read the signing keys: %w", err)
		}
		added, err := fn(keys)
		if err != nil {
			return err
		}
		for _, k := range added {
			_, err := conn.Exec(ctx, `insert into signing_keys (kid, state, public, sealed, created_at) values ($1, $2, $3, $4, $5)`,
				k.ID, k.State, k.Public, k.Sealed, k.CreatedAt)
			if err != nil {
				return fmt.Errorf("insert signing key %s: %w", k.ID, err)
			}
		}
		keys = append(keys, added...)
		return nil
	})
	return keys, err
}
