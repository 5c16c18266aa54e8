-- +goose NO TRANSACTION
-- +goose Up
-- One or two letters have no trigram: they find names that begin with them, compared byte by byte.
create index concurrently if not exists clients_prefix on clients (lower(name) text_pattern_ops);
