-- +goose NO TRANSACTION
-- +goose Up
create index concurrently if not exists clients_merged on clients (merged_into) where merged_into is not null;
