-- +goose Up
-- The rows of deliveries are the queue, in partitions of a week (docs/adr/0035). The previous version goes on reading and changing them;
-- it cannot insert any more, so its consumers wait until they are replaced (docs/adr/0036).

-- A UUIDv7 of that time. Ids in the order of time make the id the key of the partitions.
-- +goose StatementBegin
create function delivery_id(at timestamptz) returns uuid language sql volatile as $$
    select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        placing substring(int8send(floor(extract(epoch from at) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;
-- The lowest UUIDv7 of that time: the bound of a partition.
create function first_delivery_id(at timestamptz) returns uuid language sql immutable as $$
    select (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
-- +goose StatementEnd

-- A paused or disabled endpoint is enough to hold its deliveries: "held" is derived. A delivery that was stored as held waits again.
update deliveries set status = case when failures > 0 then 'retrying' else 'pending' end, reason = null, next_attempt_at = created_at where status = 'held';

-- The events that each endpoint was to get, for longer than the deliveries: a replay of a topic makes no second delivery.
create table seen (
    event_id    uuid not null,
    endpoint_id uuid not null,
    delivery_id uuid not null,
    primary key (event_id, endpoint_id)
);
lock table deliveries, attempts in access exclusive mode;
insert into seen select event_id, endpoint_id, id from deliveries;

alter table deliveries drop constraint deliveries_status_check,
    add constraint deliveries_status_check check (status in ('pending', 'retrying', 'delivered', 'dead'));
alter table attempts drop constraint attempts_delivery_id_fkey; -- a partition of deliveries and that of its attempts go together
alter table deliveries drop constraint deliveries_event_id_endpoint_id_key; -- a replay has the event id of the first delivery
alter table deliveries drop constraint deliveries_endpoint_id_fkey; -- rows of endpoints are never deleted
alter table deliveries
    add column replay_of  uuid, -- the delivery that this one repeats
    add column replay_id  uuid, -- the request that made it, by which it can be canceled
    add column incomplete boolean not null default false; -- sent without the copy of somebody that the event names

alter table deliveries rename to deliveries_first;
alter table attempts rename to attempts_first;
alter index deliveries_pkey rename to deliveries_first_pkey;
alter index deliveries_newest rename to deliveries_first_newest;
alter index deliveries_of_call rename to deliveries_first_of_call;
alter index deliveries_of_endpoint rename to deliveries_first_of_endpoint;
alter index deliveries_leased rename to deliveries_first_leased;
alter index deliveries_of_agent rename to deliveries_first_of_agent;
alter index deliveries_of_client rename to deliveries_first_of_client;
alter index deliveries_of_lead rename to deliveries_first_of_lead;
alter index attempts_pkey rename to attempts_first_pkey;
drop index deliveries_open;

create table deliveries (like deliveries_first including defaults including constraints, primary key (id)) partition by range (id);
create index deliveries_newest on deliveries (created_at desc, id desc);
create index deliveries_of_call on deliveries (call_id, created_at desc, id desc);
create index deliveries_of_endpoint on deliveries (endpoint_id, created_at desc, id desc);
create index deliveries_of_type on deliveries (event, created_at desc, id desc);
create index deliveries_of_event on deliveries (event_id);
create index deliveries_of_agent on deliveries (agent_id) where agent_id is not null;
create index deliveries_of_client on deliveries (client_id) where client_id is not null;
create index deliveries_of_lead on deliveries (lead_id) where lead_id is not null;
create index deliveries_of_replay on deliveries (replay_id) where replay_id is not null;
create index deliveries_dead on deliveries (created_at desc, id desc) where status = 'dead';
-- The queue: few deliveries are waiting or being sent.
create index deliveries_waiting on deliveries (endpoint_id, next_attempt_at, id) where status in ('pending', 'retrying') and lease_holder is null;
create index deliveries_open on deliveries (created_at desc, id desc) where status in ('pending', 'retrying');
create index deliveries_leased on deliveries (lease_until) where lease_until is not null;
create table attempts (like attempts_first including defaults including constraints, primary key (delivery_id, number)) partition by range (delivery_id);

-- What exists is the first partition, to the end of this week. upkeep adds one for each week. Default ones are for the row of a process
-- whose clock is wrong by weeks.
-- +goose StatementBegin
do $$
declare bound uuid := first_delivery_id(date_trunc('week', now(), 'UTC') + interval '7 days');
begin
    execute format('alter table deliveries attach partition deliveries_first for values from (minvalue) to (%L)', bound);
    execute format('alter table attempts attach partition attempts_first for values from (minvalue) to (%L)', bound);
end $$;
-- +goose StatementEnd
create table deliveries_default partition of deliveries default;
create table attempts_default partition of attempts default;
