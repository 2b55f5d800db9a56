#!/bin/bash
# Formats the data folder once, with the administrator and one SCRAM user for each role, then runs the broker.
# Passwords come from the environment; the broker keeps only their salted hashes.
set -euo pipefail
users=()
for role in admin worker sink audit webhooks gateway producer api operator reader; do
  variable="KAFKA_${role^^}_PASSWORD"
  if [ -z "${!variable:-}" ]; then
    echo "$variable is not set: no user may have an empty password. Nothing was started." >&2
    exit 1
  fi
  users+=(--add-scram "SCRAM-SHA-512=[name=$role,password=${!variable}]")
done
if [ ! -e /var/lib/kafka/data/meta.properties ]; then
  cluster=$(/opt/kafka/bin/kafka-storage.sh random-uuid)
  /opt/kafka/bin/kafka-storage.sh format --cluster-id "$cluster" --config /etc/sluicegate/server.properties "${users[@]}" >/dev/null
fi
exec /opt/kafka/bin/kafka-server-start.sh /etc/sluicegate/server.properties
