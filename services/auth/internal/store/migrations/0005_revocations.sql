-- +goose Up
-- Sessions that have ended, and agents that are inactive or were: what other services ask for while they cannot read the topic. A
-- replica of the version before writes nothing here.
create table revocations (
    id          uuid         primary key, -- of a session or an agent
    version     bigint       not null,    -- of the agent; 0 for a session
    revoked     boolean      not null,
    changed_at  timestamptz  not null default now(),
    -- Transactions commit in another order than they begin: a list since a point in time would miss some. One since the oldest
    -- transaction that was open misses none.
    changed_in  xid8         not null default pg_current_xact_id()
);
create index revocations_order_idx on revocations (changed_in, id);
create index revocations_changed_at_idx on revocations (changed_at);
insert into revocations (id, version, revoked) select id, version, true from agents where not is_active and updated_at > now() - interval '31 days';

-- Networks from which somebody has logged in to an account. A key is the HMAC of both, so nobody can be read from it.
create table known_networks (
    key      bytea        primary key,
    last_at  timestamptz  not null
);
create index known_networks_last_idx on known_networks (last_at);

-- Accounts that were registered from an address within an hour. A key is the HMAC of the address.
create table registrations (
    key    bytea        primary key,
    began  timestamptz  not null, -- the hour
    count  int          not null
);
create index registrations_began_idx on registrations (began);
