-- +goose Up
-- The peaks of a recording for players, made from the decoding that measures the duration.
create table waveforms (
    call_id          uuid    primary key references calls (id) on delete cascade,
    channels         int     not null,
    peaks_per_second int     not null,
    peaks            jsonb   not null
);
