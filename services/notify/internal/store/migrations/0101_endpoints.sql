-- +goose Up
-- What the API of endpoints and the delivery engine need. Every column has a default, so that the previous version goes on inserting.
alter table endpoints
    add column description text not null default '',
    add column rate_limit_per_second integer check (rate_limit_per_second between 1 and 1000), -- null: no limit
    -- Until then every secret signs, the previous ones of a rotation too; afterwards only the newest. Null: every secret signs.
    add column previous_secrets_until timestamptz,
    -- Raised by every change of what the API shows, pausing and disabling included: the ETag. An attempt that began under another epoch
    -- does not disable the endpoint.
    add column epoch bigint not null default 0,
    -- The circuit breaker, by the database's clock.
    add column failures integer not null default 0, -- failed attempts of any delivery since the last success
    add column failing_since timestamptz,           -- the first of them
    add column next_probe_at timestamptz,           -- open: nothing is sent before then, and then one delivery; null: closed
    -- The rate limit's: when the next request is allowed.
    add column next_send_at timestamptz,
    add column deleted_at timestamptz; -- its deliveries are kept; url and secrets are not
alter table endpoints drop constraint endpoints_profile_check,
    add constraint endpoints_profile_check check (profile in ('pabbly', 'pabbly-nested', 'standard'));
