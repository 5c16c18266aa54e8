-- +goose Up
-- Lists of the whole team by status and by due date. Without these, rare statuses and late dates are searched in all follow-ups.
create index followups_status on followups (status, (coalesce(due_date, '9999-12-31T23:59:59Z'::timestamptz)), id);
create index followups_dated on followups (due_date) where due_date is not null;
