#!/usr/bin/env bash
# Below coord::Cluster lie coord/ itself and the seam of kv/: no backend, no program, and no driver of events but the
# store's own. Below the driver of NATS lies NATS, and no other backend; and no primitive.
set -euo pipefail

libraries=tests/build/libraries_below_cluster
allowed='//coord(/[a-z_/]+)?:.*|//kv:(store|store_wrapper|mutex)'

grep -qx '//kv:store' "$libraries" || { echo "FAILED: the query does not see //kv:store:" && cat "$libraries" && exit 1; }
if grep -vxE "$allowed" "$libraries"; then
  echo "FAILED: these may not be reached from //coord:cluster"
  exit 1
fi
if grep nats "$libraries"; then
  echo "FAILED: events over NATS are a leaf: these may not be reached from //coord:cluster"
  exit 1
fi

driver=tests/build/libraries_below_nats_events
for expected in //kv:nats_connection //coord:event_bus; do
  grep -qx "$expected" "$driver" || { echo "FAILED: the query does not see $expected:" && cat "$driver" && exit 1; }
done
if grep -E '^//kv:(open|.*(sqlite|memcached|memory_store))|^//coord:(cluster|grants|atomic_value|shared_.*|testing)$' "$driver"; then
  echo "FAILED: these may not be reached from //coord:nats_events"
  exit 1
fi
