-- +goose Up
create index calls_recorded on calls (created_at desc, id desc) where audio_key <> '';
