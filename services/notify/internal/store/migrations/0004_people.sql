-- +goose Up
-- The client that a deleted one was merged into.
alter table clients add column merged_into uuid;

-- Who a delivery is about, so that it can be erased and shown with the person.
alter table deliveries add column agent_id uuid, add column client_id uuid, add column lead_id uuid, add column followup_id uuid;
update deliveries set
    agent_id    = (convert_from(data, 'UTF8')::jsonb->>'agent_id')::uuid,
    client_id   = (convert_from(data, 'UTF8')::jsonb->>'client_id')::uuid,
    lead_id     = (convert_from(data, 'UTF8')::jsonb->>'lead_id')::uuid,
    followup_id = (convert_from(data, 'UTF8')::jsonb->>'followup_id')::uuid
where length(data) > 1;
create index deliveries_of_agent on deliveries (agent_id) where agent_id is not null;
create index deliveries_of_client on deliveries (client_id) where client_id is not null;
create index deliveries_of_lead on deliveries (lead_id) where lead_id is not null;
