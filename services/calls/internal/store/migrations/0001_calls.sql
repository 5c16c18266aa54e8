-- +goose Up
create table calls (
    id                  uuid             primary key,
    agent_id            uuid             not null,
    version             bigint           not null,
    status              text             not null check (status in ('pending', 'transcribing', 'completed', 'failed')),
    outcome             text,
    error_code          text,
    error_message       text,
    retryable           boolean,
    progress            double precision not null,
    attempts            integer          not null,
    client_id           uuid,
    lead_id             uuid,
    call_type           text             not null,
    call_tag            text,
    language            text,
    recorded_at         timestamptz,
    audio_key           text             not null,
    audio_filename      text,
    content_type        text             not null,
    size_bytes          bigint           not null,
    sha256              text             not null,
    duration_seconds    double precision,
    title               text,
    summary             text,
    action_items        text[],
    sentiment           text,
    key_topics          text[],
    next_step           text,
    intent_category     text,
    intent_confidence   double precision,
    interest_level      text,
    objections          text[],
    callback_time       timestamptz,
    transcription_model text,
    chat_model          text,
    created_at          timestamptz      not null,
    updated_at          timestamptz      not null,
    completed_at        timestamptz,
    lease_epoch         bigint           not null,
    lease_until         timestamptz,
    lease_held          boolean          not null,
    lease_failures      integer          not null,
    trace               jsonb            not null, -- W3C headers of the upload, so that all later work joins its trace
    search              tsvector                   -- of title, summary and transcript, once completed
);
create index calls_of_agent on calls (agent_id, created_at desc, id desc);
create index calls_newest on calls (created_at desc, id desc);
create index calls_of_client on calls (client_id, created_at desc, id desc) where client_id is not null;
create index calls_leases on calls (lease_until) where lease_until is not null;
create index calls_search on calls using gin (search);

-- Apart from the call, because it can be megabytes and most reads and all heartbeats do without it.
create table transcripts (
    call_id  uuid  primary key references calls (id) on delete cascade,
    text     text  not null,
    segments jsonb
);

-- What crm told about clients. A deleted one stays as a mark, so that an event that comes late does not bring it back.
create table clients (
    id       uuid    primary key,
    agent_id uuid    not null,
    version  bigint  not null,
    deleted  boolean not null
);
