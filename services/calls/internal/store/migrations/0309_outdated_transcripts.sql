-- +goose Up
-- A retry keeps the transcript of the run before until there is a new one.
alter table calls add column transcript_outdated boolean not null default false;
