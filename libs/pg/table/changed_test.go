package table_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/table"
)

func TestTheColumnsThatChangedAreNamed(t *testing.T) {
	t.Parallel()
	type row struct {
		id, name string
		note     *string
		at       time.Time
		due      *time.Time
		tags     []string
	}
	columns := func(r *row) table.Columns {
		return table.Columns{
			table.Fixed("id", &r.id), table.Col("name", &r.name), table.Col("note", &r.note), table.Col("at", &r.at), table.Col("due", &r.due), table.Col("tags", &r.tags),
		}
	}
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	elsewhere := now.In(time.FixedZone("", 19800))
	before := row{"1", "a", new("x"), now, &now, []string{"t"}}
	same := row{"2", "a", new("x"), elsewhere, &elsewhere, []string{"t"}}
	require.Empty(t, columns(&same).Changed(columns(&before)), "a fixed column does not change")
	after := row{"1", "b", nil, now.Add(1), nil, nil}
	require.Equal(t, []string{"name", "note", "at", "due", "tags"}, columns(&after).Changed(columns(&before)))
	require.Equal(t, []string{"name", "note", "at", "due", "tags"}, columns(&before).Changed(columns(&after)))
}
