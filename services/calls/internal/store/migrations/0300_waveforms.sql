-- +goose Up
-- Peaks of a recording for a player, made when it is decoded.
create table waveforms (
    call_id          uuid  primary key references calls (id) on delete cascade,
    channels         int   not null,
    peaks_per_second int   not null,
    peaks            jsonb not null
);
