-- +goose Up
create table leads (
    id                    uuid             primary key,
    assigned_agent_id     uuid,
    name                  text             not null,
    phone                 text,                     -- E.164
    raw_phone             text,                     -- as it came, if it is no phone number
    email                 text,
    source_campaign       text,
    ad_set                text,
    form_id               text,
    form_name             text,
    google_sheet_row_id   text,
    status                text             not null,
    status_reason         text,
    intent_category       text             not null,
    intent_confidence     double precision,
    interest_level        text,
    callback_scheduled_at timestamptz,
    next_followup_at      timestamptz,
    last_contacted_at     timestamptz,
    followup_count        integer          not null,
    course_interested_in  text,
    payment_link_url      text,
    payment_link_sent     boolean          not null,
    objections            text,
    notes                 text,
    conversation_summary  text,
    extra_data            jsonb            not null,
    client_id             uuid,
    decided_at            timestamptz,              -- when a person last chose the status or intent
    call_id               uuid,                     -- the newest call whose effect the lead has
    call_version          bigint           not null,
    call_at               timestamptz,
    version               bigint           not null,
    created_at            timestamptz      not null,
    updated_at            timestamptz      not null,
    check ((phone is null) <> (raw_phone is null)),
    -- Keys of the lists, all ascending, so that a page is one range of an index. They are columns because the order of a list
    -- compares them as one row.
    list_stage            smallint         not null generated always as (case status when 'new' then 0 else 1 end) stored,
    list_followup         timestamptz      not null generated always as (coalesce(next_followup_at, 'infinity'::timestamptz)) stored,
    list_callback         timestamptz      not null generated always as (coalesce(callback_scheduled_at, 'infinity'::timestamptz)) stored,
    list_contacted        timestamptz      not null generated always as (coalesce(last_contacted_at, 'infinity'::timestamptz)) stored,
    list_age              bigint           not null generated always as (-(extract(epoch from created_at at time zone 'UTC') * 1000000)::bigint) stored
);
-- A lead is one phone number of the whole team.
create unique index leads_phone on leads (phone);

-- The default list, and that of one agent.
create index leads_default on leads (list_stage, list_followup, list_age, id);
create index leads_default_of_agent on leads (assigned_agent_id, list_stage, list_followup, list_age, id);
create index leads_callbacks_of_agent on leads (assigned_agent_id, list_callback, list_stage, list_followup, list_age, id);
-- The lists that are sorted by a field.
create index leads_created on leads (created_at, id);
create index leads_created_of_agent on leads (assigned_agent_id, created_at, id);
create index leads_updated on leads (updated_at, id);
create index leads_updated_of_agent on leads (assigned_agent_id, updated_at, id);
create index leads_name on leads (lower(name), id);
create index leads_name_of_agent on leads (assigned_agent_id, lower(name), id);
create index leads_followup on leads (list_followup, id);
create index leads_followup_of_agent on leads (assigned_agent_id, list_followup, id);
create index leads_callback on leads (list_callback, id);
create index leads_callback_of_agent on leads (assigned_agent_id, list_callback, id);
create index leads_contacted on leads (list_contacted, id);
create index leads_contacted_of_agent on leads (assigned_agent_id, list_contacted, id);
create index leads_count on leads (followup_count, id);
create index leads_count_of_agent on leads (assigned_agent_id, followup_count, id);
-- Filters with few leads.
create index leads_status on leads (status, list_stage, list_followup, list_age, id);
create index leads_intent on leads (intent_category, list_stage, list_followup, list_age, id);
create index leads_campaign on leads (source_campaign, list_stage, list_followup, list_age, id);

create index leads_search on leads using gin (trigrams(name || chr(1) || coalesce(phone, raw_phone, '') || chr(1) || coalesce(email, '') || chr(1) || coalesce(source_campaign, '')));

-- What the team has set. Each key has its row from the beginning; null is the default.
create table settings (
    key        text   primary key,
    value      jsonb,
    version    bigint not null,
    updated_at timestamptz
);
insert into settings (key, version) values ('lead_fields', 0), ('lead_mapping', 0), ('lead_statuses', 0), ('time_zone', 0), ('working_hours', 0);
