-- +goose Up
-- What a language model last found about a lead: a later call that does not find it takes it back.
alter table leads add column found jsonb not null default '{}';
