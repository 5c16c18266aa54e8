-- +goose NO TRANSACTION
-- +goose Up
create index concurrently if not exists calls_recorded on calls (created_at desc, id desc) where audio_key <> '';
