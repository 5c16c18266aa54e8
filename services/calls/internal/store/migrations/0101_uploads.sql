-- +goose Up
-- The same recording twice is one call.
create index calls_of_recording on calls (agent_id, sha256, created_at desc) where sha256 <> '';

-- For the quotas of uploads.
create index calls_stored on calls (agent_id) include (size_bytes) where audio_key <> '';
create index calls_open on calls (agent_id) where status in ('pending', 'transcribing');
