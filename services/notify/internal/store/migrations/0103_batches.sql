-- +goose Up
-- lint: it is of the release of 0102, which locks deliveries anyway (docs/adr/0036); clients_merged has the few rows of a small table
-- A lease is in no index any more, so that a claim changes none (docs/adr/0054). The version before finds what is due by the new one too.
create index deliveries_queue on deliveries (endpoint_id, next_attempt_at, id) where status in ('pending', 'retrying');
drop index deliveries_waiting;
drop index deliveries_leased;

-- Space for the versions of a row that is claimed and recorded in its own page; what is sent is out of the way. New partitions have it.
-- +goose StatementBegin
do $$
declare partition regclass;
begin
    for partition in select inhrelid from pg_inherits where inhparent = 'deliveries'::regclass loop
        execute format('alter table %s set (fillfactor = 50, toast_tuple_target = 256)', partition);
    end loop;
end $$;
-- +goose StatementEnd

-- An erasure looks for the clients that were merged into the erased one.
create index clients_merged on clients (merged_into) where merged_into is not null;
