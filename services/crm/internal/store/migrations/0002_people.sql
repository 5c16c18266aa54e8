-- +goose Up
-- The hashes of the trigrams of a text, for searches inside of words. It needs no extension: the role of a service may not create
-- pg_trgm, and GIN indexes of arrays are built in. A search of three letters or more reads the rows that have all its trigrams, and
-- compares those.
-- +goose StatementBegin
create function trigrams(searched text) returns integer[] language sql immutable parallel safe strict as $$
    select coalesce(array_agg(hashtext(substr(lower($1), n, 3))), '{}') from generate_series(1, length($1) - 2) n
$$;
-- +goose StatementEnd
create index clients_search on clients using gin
    (trigrams(name || chr(1) || coalesce(company, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(phone, '')));

-- Clients that were merged into another one, so that what names the former follows. A chain has one step: the target always exists.
create table client_merges (
    id          uuid        primary key,
    merged_into uuid        not null references clients on delete cascade,
    created_at  timestamptz not null default now()
);
create index client_merges_target on client_merges (merged_into);

alter table followups
    alter column due_date drop not null,
    add column announced        boolean not null default true,  -- followup.scheduled has been published
    add column reminded         boolean not null default false, -- followup.due has been published for this date
    add column pabbly_triggered boolean not null default false;
update followups set reminded = true where due_date < now();
drop index followups_due, followups_due_of_agent;
-- Without a date: last in lists.
create index followups_due on followups ((coalesce(due_date, '9999-12-31T23:59:59Z'::timestamptz)), id);
create index followups_due_of_agent on followups (agent_id, (coalesce(due_date, '9999-12-31T23:59:59Z'::timestamptz)), id);
create index followups_to_remind on followups (due_date) where status = 'pending' and not reminded and due_date is not null;
create index followups_of_lead on followups (lead_id) where lead_id is not null;
create index calls_of_client on calls (client_id) where client_id is not null;
create index calls_of_lead on calls (lead_id) where lead_id is not null;

-- One address of each agent's calendar, for calendar apps.
create table calendar_tokens (
    agent_id   uuid        primary key,
    hash       bytea       not null unique, -- SHA-256: who reads the table cannot read a calendar
    created_at timestamptz not null
);

-- What happened with each client and lead: one row per call, follow-up and delivery, in its newest state, and one per change of the
-- client or lead itself.
create table timeline (
    id          uuid        primary key, -- of the call, follow-up or delivery; a change has one of its own
    kind        text        not null check (kind in ('call', 'followup', 'delivery', 'change')),
    at          timestamptz not null,
    version     bigint      not null, -- of the call or follow-up
    client_id   uuid,
    lead_id     uuid,
    call_id     uuid,
    followup_id uuid,
    agent_id    uuid,        -- whose call or follow-up it is; who made the change
    event       text,        -- type of the delivered event, or of the change
    title       text,        -- of the call; the task of a follow-up
    status      text,
    reason      text,        -- of a delivery that is dead
    due_date    timestamptz,
    fields      text[]       -- names of the fields that a change changed
);
create index timeline_of_client on timeline (client_id, at desc, id desc) where client_id is not null;
create index timeline_of_lead on timeline (lead_id, at desc, id desc) where lead_id is not null;
create index timeline_of_call on timeline (call_id) where call_id is not null;
insert into timeline (id, kind, at, version, client_id, lead_id, call_id, followup_id, agent_id, title, status, due_date)
    select id, 'followup', created_at, version, client_id, lead_id, call_id, id, agent_id, task, status, due_date from followups;

-- The book of erasures: who asked for what, and which services have confirmed. It has nothing personal.
create table erasures (
    id              uuid        primary key,
    kind            text        not null check (kind in ('client', 'lead', 'agent')),
    subject_id      uuid        not null,
    subject_version bigint      not null,
    requested_by    uuid        not null,
    requested_at    timestamptz not null,
    closed          boolean     not null default false -- every service has confirmed, and the compacted topic has a tombstone
);
create table erasure_confirmations (
    erasure_id uuid        not null, -- no reference: a confirmation may come before the request
    service    text        not null,
    done_at    timestamptz not null,
    primary key (erasure_id, service)
);
