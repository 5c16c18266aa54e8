-- +goose Up
-- A delivery's lease has the shape of every lease of the platform (libs/lease). Nothing was released before, so the column is
-- renamed in one step.
alter table deliveries rename column epoch to lease_epoch;
alter table deliveries add column lease_holder text; -- the process that sends it
alter table deliveries add column failures integer not null default 0; -- requests that failed
alter table deliveries alter column failures drop default;
update deliveries set failures = attempts - case status when 'delivered' then 1 else 0 end;
-- No worker reads the jobs of the former kind. Open deliveries look as if their worker had lost its lease, so they get new ones.
update deliveries set lease_holder = 'migration', lease_until = now() where status in ('pending', 'retrying');
alter table deliveries add check ((lease_holder is null) = (lease_until is null));
comment on column deliveries.attempts is 'requests begun, also those that a stop or a crash cut off';
