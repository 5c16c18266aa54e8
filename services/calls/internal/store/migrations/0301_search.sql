-- +goose Up
-- The text search configuration that a call's column search was made with. Calls of earlier versions have no stems.
alter table calls add column search_config text not null default 'simple';
