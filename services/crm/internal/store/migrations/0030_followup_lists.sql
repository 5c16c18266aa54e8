-- +goose Up
-- Lists of the whole team by status. Without it, rare statuses are searched in all follow-ups.
create index followups_status on followups (status, (coalesce(due_date, '9999-12-31T23:59:59Z'::timestamptz)), id);
