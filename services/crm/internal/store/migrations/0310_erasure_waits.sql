-- +goose Up
-- Why a service may not erase everything of a person yet.
create table erasure_waits (
    erasure_id uuid not null, -- no reference, as for confirmations
    service    text not null,
    reason     text not null, -- legal_hold
    primary key (erasure_id, service)
);
