-- +goose Up
-- One or two letters have no trigram: they find names that begin with them, compared byte by byte.
create index leads_prefix on leads (lower(name) text_pattern_ops);
create index clients_prefix on clients (lower(name) text_pattern_ops);
