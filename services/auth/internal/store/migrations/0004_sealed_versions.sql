-- +goose Up
-- Sealed keys begin with the version of the cipher now (libs/seal). Replicas of the version before keep the keys that they have
-- opened until they are replaced.
update signing_keys set sealed = '\x01'::bytea || sealed;
