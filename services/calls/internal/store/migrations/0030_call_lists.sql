-- +goose Up
-- Lists of the whole team by sentiment. Without it, what is rare is searched in all calls.
create index calls_sentiment on calls (sentiment, created_at desc, id desc) where sentiment is not null;
