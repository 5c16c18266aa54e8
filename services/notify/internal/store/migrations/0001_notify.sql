-- +goose Up
create table endpoints (
    id              uuid        primary key,
    url             bytea       not null, -- sealed: the path lets anybody post
    secrets         bytea       not null, -- sealed: a JSON array, newest first
    events          text[]      not null,
    profile         text        not null check (profile in ('pabbly', 'standard')),
    enabled         boolean     not null,
    disabled_reason text,
    origin          text        not null check (origin in ('environment', 'api')),
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    check (enabled = (disabled_reason is null))
);
create unique index endpoints_environment on endpoints (origin) where origin = 'environment';

create table deliveries (
    id              uuid        primary key,
    endpoint_id     uuid        not null references endpoints,
    event           text        not null,
    event_id        uuid        not null,
    event_time      timestamptz not null,
    call_id         uuid,
    data            bytea       not null, -- the event's payload
    body            bytea,                -- what is sent, from the first attempt on
    status          text        not null check (status in ('pending', 'retrying', 'delivered', 'held', 'dead')),
    attempts        integer     not null,
    next_attempt_at timestamptz,
    reason          text,
    epoch           bigint      not null,
    lease_until     timestamptz,
    trace           jsonb       not null, -- W3C headers of the event, for every job of the delivery
    created_at      timestamptz not null,
    delivered_at    timestamptz,
    updated_at      timestamptz not null,
    unique (event_id, endpoint_id)
);
create index deliveries_newest on deliveries (created_at desc, id desc);
create index deliveries_of_call on deliveries (call_id, created_at desc, id desc);
create index deliveries_of_endpoint on deliveries (endpoint_id, created_at desc, id desc);
-- Few deliveries are not delivered yet, and they are queried every few seconds.
create index deliveries_open on deliveries (status, next_attempt_at) where status <> 'delivered';
create index deliveries_leased on deliveries (lease_until) where lease_until is not null;

create table attempts (
    delivery_id uuid        not null references deliveries on delete cascade,
    number      integer     not null,
    started_at  timestamptz not null,
    latency_ms  bigint      not null,
    status_code integer,
    error       text,
    answer      text        not null,
    trace_id    text        not null,
    primary key (delivery_id, number)
);

-- Copies of what auth and crm own. An erased client keeps its id and version, so that an older event does not bring it back.
create table agents (
    id      uuid   primary key,
    version bigint not null,
    name    text   not null,
    email   text   not null
);
create table clients (
    id      uuid   primary key,
    version bigint not null,
    name    text,
    phone   text,
    email   text
);
