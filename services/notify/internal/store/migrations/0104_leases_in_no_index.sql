-- +goose Up
-- A lease is in no index, so that a claim changes none, and the versions of a row that is claimed and recorded find space in its own page
-- (docs/adr/0054).
-- lint: the index of a partitioned table cannot be dropped or built concurrently; the partitions are a few weeks old, and ADR 36 says how long a build takes
drop index deliveries_leased;
drop index deliveries_waiting;
create index deliveries_waiting on deliveries (endpoint_id, next_attempt_at, id) where status in ('pending', 'retrying');
-- +goose StatementBegin
do $$
declare part regclass;
begin
  for part in select inhrelid::regclass from pg_inherits where inhparent = 'deliveries'::regclass loop
    execute format('alter table %s set (fillfactor = 50, toast_tuple_target = 256)', part);
  end loop;
end $$;
-- +goose StatementEnd
