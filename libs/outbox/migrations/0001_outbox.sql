-- +goose Up
create table outbox (
    id          bigint generated always as identity primary key,
    event_id    uuid        not null,
    topic       text        not null,
    key         text        not null,
    type        text        not null,
    time        timestamptz not null,
    data        bytea       not null,
    trace       jsonb       not null,
    created_at  timestamptz not null default now()
);
-- Rows come and go all the time; a small table vacuumed often keeps the relay's scan short.
alter table outbox set (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
