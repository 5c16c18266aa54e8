-- +goose Up
-- The ids of calls that an event gave them, also of deleted ones: a replay of the event must not bring them back.
create table written (id uuid primary key);
insert into written select id from calls where call_tag = 'no_answer' and audio_key = '' and sha256 = '';

-- The requests of a person whose calls are on legal hold.
create index erasure_requests_of_subject on erasure_requests (subject_id);
