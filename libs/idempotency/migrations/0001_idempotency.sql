-- +goose Up
create table idempotency (
    agent_id    uuid        not null,
    operation   text        not null,
    key         text        not null,
    fingerprint bytea       not null,
    answer      json,
    created_at  timestamptz not null default now(),
    primary key (agent_id, operation, key)
);
create index idempotency_created_at on idempotency (created_at);
