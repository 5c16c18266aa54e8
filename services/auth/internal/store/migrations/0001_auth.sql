-- +goose Up
create table agents (
    id             uuid        primary key,
    version        bigint      not null,
    email          text        not null constraint agents_email_key unique, -- in lower case
    password_hash  text        not null,
    full_name      text        not null,
    role           text        not null check (role in ('agent', 'admin')),
    is_active      boolean     not null,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);

-- At most one row: who inserts it is the platform's first agent.
create table founding (
    done  boolean primary key check (done)
);

create table sessions (
    id            uuid        primary key,
    agent_id      uuid        not null references agents on delete cascade,
    created_at    timestamptz not null,
    last_used_at  timestamptz not null,
    user_agent    text        not null check (char_length(user_agent) <= 200),
    ip            text        not null
);
create index sessions_agent_idx on sessions (agent_id, last_used_at desc);

create table signing_keys (
    kid         uuid        primary key,
    state       text        not null check (state in ('signing', 'next')),
    public      bytea       not null,
    sealed      bytea       not null, -- XChaCha20-Poly1305 under a key derived from SECRET_KEY
    created_at  timestamptz not null
);
create unique index signing_keys_one_signs on signing_keys (state) where state = 'signing';
