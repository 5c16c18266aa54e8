-- +goose Up
-- What people say about a call.
alter table calls add column given_title text;
alter table calls add column notes text;

-- Whether a webhook about the call was delivered.
alter table calls add column pabbly_sent boolean not null default false;
