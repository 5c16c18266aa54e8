-- +goose Up
create table clients (
    id         uuid        primary key,
    agent_id   uuid        not null,
    name       text        not null,
    email      text,
    phone      text, -- E.164
    company    text,
    notes      text,
    version    bigint      not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create unique index clients_email on clients (agent_id, lower(email));
create unique index clients_phone on clients (agent_id, phone);
create index clients_newest on clients (created_at desc, id desc);
create index clients_newest_of_agent on clients (agent_id, created_at desc, id desc);

create table followups (
    id           uuid        primary key,
    call_id      uuid        not null,
    client_id    uuid        references clients on delete set null,
    lead_id      uuid,
    agent_id     uuid        not null,
    due_date     timestamptz not null,
    task         text,
    notes        text,
    status       text        not null,
    source       text        not null,
    version      bigint      not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    completed_at timestamptz
);
create index followups_due on followups (due_date, id);
create index followups_due_of_agent on followups (agent_id, due_date, id);
create index followups_of_call on followups (call_id);
create index followups_of_client on followups (client_id);

-- Copies of what other services own, built from their events. They reference nothing: events of different topics come in
-- any order.
create table calls (
    id        uuid    primary key,
    version   bigint  not null, -- 0: asked for, no event seen yet
    agent_id  uuid    not null,
    client_id uuid,
    lead_id   uuid,
    status    text    not null,
    deleted   boolean not null
);

create table agents (
    id      uuid    primary key,
    version bigint  not null,
    name    text    not null,
    email   text    not null,
    active  boolean not null
);
