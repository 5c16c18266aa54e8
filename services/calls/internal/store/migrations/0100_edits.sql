-- +goose Up
-- What people say about a call.
alter table calls add column given_title text;
alter table calls add column notes text;

-- The same recording twice is one call.
create index calls_of_recording on calls (agent_id, sha256, created_at desc) where sha256 <> '';
