-- +goose Up
create index calls_search_config on calls (search_config) where search is not null;
create index calls_of_lead on calls (lead_id, created_at desc, id desc) where lead_id is not null;
-- Most calls are completed: those that are not are few, and are looked for.
create index calls_unfinished on calls (status, created_at desc, id desc) where status <> 'completed';
