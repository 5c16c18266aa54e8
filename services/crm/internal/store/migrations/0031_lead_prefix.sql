-- +goose NO TRANSACTION
-- +goose Up
-- One or two letters have no trigram: they find names that begin with them, compared byte by byte.
create index concurrently if not exists leads_prefix on leads (lower(name) text_pattern_ops);
