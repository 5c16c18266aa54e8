-- +goose Up
-- Null unless the agent was deleted. The row stays until its erasure, so that the e-mail is not taken by somebody else before.
alter table agents add column deleted_at timestamptz;
