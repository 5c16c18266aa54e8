-- +goose Up
-- The relay reads the oldest events of each topic, so that a topic that cannot be written to does not delay the others.
-- data is null in a tombstone, which makes a compacted topic forget a key.
alter table outbox
    drop constraint outbox_pkey,
    add primary key (topic, id),
    alter column data drop not null;
