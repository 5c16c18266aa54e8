-- +goose Up
-- The audio that was uploaded, for the quota of minutes per day: deleting a call gives no minutes back.
create table audio_days (
    day      date             not null, -- UTC
    agent_id uuid             not null,
    seconds  double precision not null, -- as far as the durations are known
    primary key (day, agent_id)
);
insert into audio_days
select (now() at time zone 'UTC')::date, agent_id, sum(duration_seconds) from calls
where created_at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' and duration_seconds is not null group by agent_id;
