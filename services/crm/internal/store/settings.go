package store

import (
	"context"

	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/setting"
)

// Settings returns the store of settings, on the table settings.
func Settings(db *pg.DB) setting.Store {
	type row = setting.Setting
	return settings{table.New(db, nil, table.Spec[row]{
		Name: "settings",
		Columns: func(s *row) table.Columns {
			return table.Columns{table.Fixed("key", &s.Key), table.Col("value", &s.Value), table.Col("version", &s.Version), table.Col("updated_at", &s.UpdatedAt)}
		},
		Order:   table.Order[row]{Keys: []table.Key[row]{{Name: "key", Type: "text", Of: func(s row) any { return s.Key }}}},
		Missing: setting.NotFound,
	})}
}

type settings struct{ *table.Table[setting.Setting] }

// List reads all settings.
func (s settings) List(ctx context.Context, r page.Request) (page.Of[setting.Setting], error) {
	return s.Table.List(ctx, table.Where{}, r)
}
