-- +goose Up
-- Every new column has a default or may be null: the version before goes on writing while this one starts.

-- When the person chose the password. Hashing it anew leaves it alone.
alter table agents add column password_set_at timestamptz not null default 'epoch';
create index agents_newest_idx on agents (created_at desc, id desc);

-- Null in a session of the version before: it cannot be renewed.
alter table sessions
    add column family_hash   bytea, -- SHA-256 of what all refresh tokens of the session share
    add column refresh_hash  bytea, -- SHA-256 of the secret of the newest refresh token
    add column spent_hash    bytea, -- SHA-256 of the secret of the one before
    add column nonce         bytea; -- with the secret before it makes the newest one
create index sessions_newest_idx on sessions (agent_id, created_at desc, id desc);
drop index sessions_agent_idx;

-- Wrong passwords of the last hour. A key is the HMAC of an account or an address, so nobody can be read from it.
create table login_failures (
    key       bytea        primary key,
    failures  int          not null,
    last_at   timestamptz  not null
);
create index login_failures_last_idx on login_failures (last_at);

alter table signing_keys
    drop constraint signing_keys_state_check,
    add constraint signing_keys_state_check check (state in ('signing', 'next', 'old')),
    add column since timestamptz not null default now(), -- when it came into its state
    add column token_ttl interval not null default '30 days'; -- the longest life of a token that it has signed
update signing_keys set since = created_at;
