-- +goose Up
create table inbox (
    event_id uuid        primary key,
    seen_at  timestamptz not null default now()
);
create index inbox_seen_at on inbox (seen_at);
