-- +goose Up
-- The client that a deleted one was merged into.
alter table clients add column merged_into uuid;

-- The request to erase a person that a recording has to be removed for.
alter table erasures add column request_id uuid;
create index erasures_of_request on erasures (request_id) where request_id is not null;

-- Requests to erase a person whose recordings are not all removed yet. The last one to be removed confirms the request.
create table erasure_requests (
    id              uuid        primary key,
    kind            text        not null,
    subject_id      uuid        not null,
    subject_version bigint      not null,
    requested_by    uuid        not null,
    requested_at    timestamptz not null
);
