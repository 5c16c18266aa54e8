-- +goose Up
-- The values of extra_data as forms and files last sent them: what differs from them since, a person has changed.
alter table leads add column received_data jsonb not null default '{}';
-- Counts the leads that each agent still has to work on.
create index leads_open_of_agent on leads (assigned_agent_id) where status not in ('converted', 'lost');

create table imports (
    id           uuid        primary key,
    agent_id     uuid        not null, -- who made it
    team         boolean     not null, -- an admin, who may change the leads of all agents
    state        text        not null, -- staging, running, completed, reverting, reverted, failed
    dry_run      boolean     not null,
    distribute   boolean     not null,
    total        integer     not null, -- rows
    created      integer     not null,
    updated      integer     not null,
    merged       integer     not null,
    skipped      integer     not null,
    reverted     integer     not null, -- leads
    retained     integer     not null, -- leads that were not reverted
    lease_epoch    bigint      not null,
    lease_holder   text,
    lease_until    timestamptz,
    lease_attempts integer     not null,
    lease_failures integer     not null,
    version      bigint      not null,
    created_at   timestamptz not null,
    finished_at  timestamptz
);
create index imports_leases on imports (lease_until) where lease_holder is not null;
create index imports_age on imports (created_at);

-- The rows of the files. data is deleted when the row is done.
create table import_rows (
    import_id uuid    not null references imports on delete cascade,
    line      integer not null, -- of the file, from 1
    phone     text,             -- E.164
    data      jsonb,
    result    text,             -- created, updated, merged, skipped; null while it waits
    reason    text,
    lead_id   uuid,
    reverted  boolean,          -- null unless the import is reverted
    primary key (import_id, line)
);
create index import_rows_waiting on import_rows (import_id, line) where result is null;
create index import_rows_phone on import_rows (phone, import_id, line) where phone is not null;
-- What a row says of a lead is erased with the lead.
create index import_rows_lead on import_rows (lead_id) where lead_id is not null;
create index import_rows_named on import_rows ((data->>'lead_id')) where result is null and data->>'lead_id' <> '';
create index import_rows_raw on import_rows ((data->>'raw_phone')) where result is null and data->>'raw_phone' is not null;

-- The leads that an import has changed, so that it can be reverted. A deleted lead takes its copy with it.
create table import_leads (
    import_id uuid    not null references imports on delete cascade,
    lead_id   uuid    not null references leads on delete cascade,
    line      integer not null, -- of the first row about it
    version   bigint  not null, -- of the lead after the import
    before    jsonb,            -- the lead before the import; null for a new one
    primary key (import_id, lead_id)
);
create index import_leads_of_lead on import_leads (lead_id);
