-- +goose Up
alter table leads add column converted_at timestamptz; -- null unless the status is converted
update leads set converted_at = updated_at where status = 'converted';
create index leads_converted on leads (converted_at, assigned_agent_id) where converted_at is not null;

-- "is null" does not fix the first column of leads_default_of_agent, so that a page of it would be sorted.
create index leads_default_of_nobody on leads (list_stage, list_followup, list_age, id) where assigned_agent_id is null;

-- What analytics needs of a call. A copy from before this migration has it with its next event.
alter table calls
    add column called_at        timestamptz, -- when it was recorded, or else created
    add column duration_seconds double precision,
    add column sentiment        text,
    add column key_topics       text[],
    add column objections       text[],
    add column talk             jsonb;
create index calls_called on calls (called_at, agent_id) where not deleted;
create index calls_called_of_agent on calls (agent_id, called_at) where not deleted;

create index followups_pending on followups (due_date, agent_id) where status = 'pending';

-- What a change of a lead or call adds to the counts (sign 1) and removes from them (-1), written in the transaction of the change.
-- A slot is a quarter of an hour since 1970, UTC; -2147483648 is none. The rows of one second are deleted in the next.
create table analytics_deltas (
    id             bigint   primary key generated always as identity,
    sign           smallint not null,
    lead           boolean  not null, -- or a call
    agent_id       uuid,              -- null: of nobody
    status         text     not null,
    intent         text     not null,
    campaign       text     not null,
    followups      integer  not null,
    contacted      boolean  not null,
    created_slot   integer  not null,
    converted_slot integer  not null,
    touched_slot   integer  not null,
    called_slot    integer  not null,
    sentiment      text     not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The sums of the deltas that were folded. The scope is an agent, or 00000000-0000-0000-0000-000000000000 for the team.
create table analytics_totals (
    scope uuid   not null,
    kind  text   not null,
    key   text   not null,
    n     bigint not null,
    primary key (scope, kind, key)
) with (fillfactor = 70);

create table analytics_days (
    scope   uuid      not null,
    measure text      not null,
    day     integer   not null, -- days since 1970, UTC
    n       integer[] not null, -- 96 numbers: n[i] is the sum of the first i slots of the day
    primary key (scope, measure, day)
) with (fillfactor = 70);
alter table analytics_days alter column n set storage plain;

-- +goose StatementBegin
create function analytics_sum(a integer[], b integer[]) returns integer[] language sql immutable parallel safe strict as $$
    select array_agg(x + y order by i) from unnest($1, $2) with ordinality as u(x, y, i)
$$;
-- +goose StatementEnd

create table analytics_state (repaired_at timestamptz not null);
insert into analytics_state values ('-infinity');

-- The chunks of rows that convoflow seed has written.
create table seeded (
    seed  bigint  not null,
    kind  text    not null,
    chunk integer not null,
    primary key (seed, kind, chunk)
);
