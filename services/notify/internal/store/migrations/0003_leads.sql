-- +goose Up
-- Copies of the leads that crm owns. An erased one has only its id and version.
create table leads (
    id      uuid   primary key,
    version bigint not null,
    name    text,
    phone   text   -- E.164, or as it came if it is no phone number
);
