package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// revocations implements agent.Revocations on the table revocations.
type revocations struct{ db *pg.DB }

// Revocations returns the store of revocations.
func Revocations(db *pg.DB) agent.Revocations { return revocations{db} }

// firstID sorts before every id.
const firstID = "00000000-0000-0000-0000-000000000000"

// position is where a list continues: after the entry with this transaction and id.
type position struct {
	start   string // the oldest open transaction when the first page was read: the next list begins there
	in, id  string
	isFirst bool
}

// parsePosition parses the output of String: "<transaction>" begins a list, "<start>.<transaction>.<id>" continues it.
func parsePosition(text string) position {
	start, rest, continues := strings.Cut(text, ".")
	if !continues {
		if start == "" {
			start = "0"
		}
		return position{in: start, id: firstID, isFirst: true}
	}
	in, id, _ := strings.Cut(rest, ".")
	return position{start: start, in: in, id: id}
}

// List reads the entries after a position, at most limit of them. A position that is later than every transaction is from another
// database, before this one was restored: the list begins anew.
func (s revocations) List(ctx context.Context, since string, limit int) (page agent.RevocationPage, err error) {
	at := parsePosition(since)
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select pg_snapshot_xmin(pg_current_snapshot())::text, r.* from (values (1)) one left join lateral (
			select id::text, version, revoked, changed_in::text as changed_in from revocations
			where (revocations.changed_in, id) > (case when $1::text::xid8 > pg_snapshot_xmax(pg_current_snapshot()) then '0'::xid8 else $1::text::xid8 end, $2::uuid)
			order by revocations.changed_in, id limit $3
		) r on true`, at.in, at.id, limit)
	if err != nil {
		return page, fmt.Errorf("read the revocations: %w", err)
	}
	type row struct {
		Open    string
		ID      *string // nil if there is no entry
		Version *int64
		Revoked *bool
		In      *string
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return page, fmt.Errorf("read the revocations: %w", err)
	}
	if at.isFirst {
		at.start = found[0].Open
	}
	page.Next = at.start
	for _, r := range found {
		if r.ID != nil {
			page.Entries = append(page.Entries, agent.Revocation{ID: *r.ID, Version: *r.Version, Revoked: *r.Revoked})
		}
	}
	if len(page.Entries) == limit {
		last := found[limit-1]
		page.More, page.Next = true, at.start+"."+*last.In+"."+*last.ID
	}
	return page, nil
}

// revoke writes the state of sessions or agents for List. It belongs into the transaction of the change.
func revoke(ctx context.Context, db *pg.DB, version int64, revoked bool, ids ...string) error {
	_, err := db.Conn(ctx).Exec(ctx, `
		insert into revocations as r (id, version, revoked) select id, $2, $3 from unnest($1::uuid[]) id
		on conflict (id) do update set version = excluded.version, revoked = excluded.revoked, changed_at = excluded.changed_at, changed_in = excluded.changed_in
		where r.version <= excluded.version`, ids, version, revoked)
	if err != nil {
		return fmt.Errorf("write revocations: %w", err)
	}
	return nil
}
