-- +goose NO TRANSACTION
-- +goose Up
create index concurrently if not exists calls_waiting on calls (agent_id, due_at) where lease_holder is null and status in ('pending', 'transcribing');
