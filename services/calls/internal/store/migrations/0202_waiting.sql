-- +goose Up
create index calls_waiting on calls (agent_id, due_at) where lease_holder is null and status in ('pending', 'transcribing');
