package store_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/crm/internal/client"
)

// TestASearchOfClientsReadsAnIndex reads 10,000 clients; that of leads is in TestNoListOfLeadsReadsTheWholeTable.
func TestASearchOfClientsReadsAnIndex(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		for _, statement := range []string{
			`set local statement_timeout = 0`,
			`insert into clients (id, agent_id, name, email, phone, company, version, created_at, updated_at)
				select gen_random_uuid(), gen_random_uuid(), 'Client ' || md5(n::text), md5((n * 7)::text) || '@example.com', '+9198' || lpad(n::text, 8, '0'), 'Company ' || n % 300, 1, now(), now()
				from generate_series(1, 10000) n`,
			`analyze clients`,
		} {
			if _, err := s.db.Conn(ctx).Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	}))
	for q, want := range map[string]int{"7f1de29e6da19d22b51c68001e7e0e54": 1, "7F1DE29E6DA19D": 1, "098 0000 1234": 1, "00001234": 16, "company 123": 33, "nobody": 0} {
		for _, f := range []client.Filter{{Q: q}, {AgentID: agentID, Q: q}} {
			f.Request = page.Request{Limit: 50}
			var found, scans int
			require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
				p, err := s.clients.List(ctx, f)
				if err != nil {
					return err
				}
				found = len(p.Items)
				return s.db.Conn(ctx).QueryRow(ctx, `select pg_stat_get_xact_numscans('clients'::regclass)::int`).Scan(&scans)
			}))
			require.Zero(t, scans, "%+v", f)
			if f.AgentID == "" {
				require.Equal(t, want, found, q)
			}
		}
	}
}
