-- +goose Up
-- What event streams show of each change of a call, for a day. Rows are read in the order (tx, n) and only up to the oldest transaction
-- that is still running: a sequence alone would let a reader pass a number whose transaction commits later.
create table changes (
    tx       xid8        not null default pg_current_xact_id(),
    n        bigint      not null generated always as identity,
    call_id  uuid        not null, -- of a call that may be deleted
    agent_id uuid        not null,
    change   jsonb       not null,
    at       timestamptz not null default now(),
    primary key (tx, n)
);
create index changes_at on changes using brin (at);
