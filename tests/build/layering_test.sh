#!/usr/bin/env bash
# Below coord::Cluster lie coord/ itself and the seam of kv/: no backend, no program.
set -euo pipefail

libraries=tests/build/libraries_below_cluster
allowed='//coord(/[a-z_/]+)?:.*|//kv:(store|store_wrapper|mutex)'

grep -qx '//kv:store' "$libraries" || { echo "FAILED: the query does not see //kv:store:" && cat "$libraries" && exit 1; }
if grep -vxE "$allowed" "$libraries"; then
  echo "FAILED: these may not be reached from //coord:cluster"
  exit 1
fi
