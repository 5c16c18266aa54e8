#!/usr/bin/env bash
# Gives each service a role and a schema of its own, when PostgreSQL makes its data directory. Names and passwords are those
# of the URLs that the services connect with: postgres://auth:<password>@…
set -euo pipefail
secrets=${SECRETS_DIR:-/run/secrets}

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"; }

sql <<'SQL'
revoke all on database :"DBNAME" from public;
revoke all on schema public from public;
SQL

for service in auth calls crm notify; do
  credentials=$(sed -E 's|^postgres://([^@]*)@.*$|\1|' "$secrets/${service}_database_url")
  service=$service role=${credentials%%:*} password=${credentials#*:} sql <<'SQL'
\getenv service service
\getenv role role
\getenv password password
create role :"role" login password :'password';
grant connect on database :"DBNAME" to :"role";
create schema :"service" authorization :"role";
SQL
done
