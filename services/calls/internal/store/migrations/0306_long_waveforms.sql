-- +goose Up
-- Milliseconds of a peak, which are more than a second in a long recording. Older rows have peaks_per_second alone, and older versions
-- read that: at least 1.
alter table waveforms add column peak_ms int;
