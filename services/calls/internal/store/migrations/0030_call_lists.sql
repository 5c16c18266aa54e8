-- +goose Up
-- Lists of the calls of a lead, and of the whole team by status and sentiment. Without these, what is rare is searched in all calls.
create index calls_of_lead on calls (lead_id, created_at desc, id desc) where lead_id is not null;
create index calls_status on calls (status, created_at desc, id desc);
create index calls_sentiment on calls (sentiment, created_at desc, id desc) where sentiment is not null;
