-- +goose Up
-- Columns are dropped in the same step because nothing was released before: no older version runs beside this one.

-- The lease of libs/lease. Only a worker has an end of its lease; who waits in the queue has none.
alter table calls rename column attempts to lease_attempts;
alter table calls add column lease_holder text;
update calls set lease_holder = 'unknown' where lease_held;
update calls set lease_until = null where not lease_held;
alter table calls drop column lease_held;
alter table calls add check ((lease_holder is null) = (lease_until is null));
drop index calls_leases;
create index calls_leases on calls (lease_until) where lease_until is not null;

-- Jobs have kinds now. The tables of the queue are made before those of the service.
update river_job set kind = 'calls.transcribe', queue = 'calls_transcribe' where kind = 'work';

-- Both are always known now.
update calls set recorded_at = created_at where recorded_at is null;
alter table calls alter column recorded_at set not null;
update calls set call_tag = 'connected' where call_tag is null;
alter table calls alter column call_tag set not null;

-- Recordings of deleted calls that a job still has to remove from the bucket.
create table erasures (
    id         uuid        primary key, -- of the call
    audio_key  text        not null,
    created_at timestamptz not null default now()
);
create index erasures_created_at on erasures (created_at);
