-- +goose Up
-- A call that must be kept as it is: neither its age nor anybody removes anything of it.
alter table calls add column legal_hold boolean not null default false;
