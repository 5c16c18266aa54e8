-- +goose Up
-- Copies of the leads that crm owns, and the numbers by which an upload is linked. Copies that are older than this get their number
-- with the next event of the client.
create table leads (
    id       uuid    primary key,
    agent_id uuid,             -- null while nobody works on it
    version  bigint  not null,
    phone    text,             -- E.164
    deleted  boolean not null
);
create index leads_of_phone on leads (phone) where phone is not null;
alter table clients add column phone text;
create index clients_of_phone on clients (agent_id, phone) where phone is not null;
