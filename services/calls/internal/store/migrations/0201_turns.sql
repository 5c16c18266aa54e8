-- +goose Up
-- When an agent's call was last begun: agents take turns.
create table turns (
    agent_id  uuid        primary key,
    served_at timestamptz not null
);
alter table calls add column due_at timestamptz default now(); -- of the job that is queued
