-- +goose Up
-- The requests to AI providers. One is committed as requested before it is sent, and its raw answer before it is read: whoever
-- continues the work reads what is there instead of paying for it again.
create table steps (
    call_id       uuid             not null references calls (id) on delete cascade,
    run           integer          not null, -- of the call; a retry that transcribes anew begins another one
    step          text             not null check (step in ('transcribe', 'analyse')),
    part          integer          not null, -- of the recording, or the number of the question
    input         text             not null, -- SHA-256 of what the request depends on, hex
    -- requested: sent, and the answer is not known; failed: the provider refused it; rejected: its answer could not be used
    state         text             not null check (state in ('requested', 'answered', 'failed', 'rejected')),
    epoch         bigint           not null, -- of the lease under which it was requested
    requests      integer          not null, -- how often it was sent
    model         text             not null,
    answer        bytea,                     -- as received; removed when the call completes
    requested_at  timestamptz      not null default now(),
    answered_at   timestamptz,
    primary key (call_id, run, step, part, input)
);

create index steps_answered on steps (call_id) where answer is not null;

alter table calls add column run integer not null default 1;
alter table calls add column step text;               -- what is being done; null before and after the work
alter table calls add column waiting_since timestamptz; -- since when a provider takes no requests
alter table calls add column coverage double precision; -- share of the speech that the transcript has, 0 to 1
alter table calls add column cost_usd double precision; -- of all its requests so far whose price is known
alter table calls add column speakers jsonb;            -- by the labels of the segments
alter table calls add column talk jsonb;
alter table transcripts add column insights jsonb;      -- the fields of the call type
alter table transcripts add column evidence jsonb;

-- What was used, by day, agent and model. It survives the calls.
create table usage_days (
    day           date             not null, -- UTC
    agent_id      uuid             not null,
    model         text             not null,
    requests      bigint           not null,
    audio_seconds double precision not null,
    input_tokens  bigint           not null,
    output_tokens bigint           not null,
    cost_usd      double precision not null, -- of the requests whose price is known
    primary key (day, agent_id, model)
);
