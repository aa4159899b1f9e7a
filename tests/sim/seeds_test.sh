#!/usr/bin/env bash
# Many seeds of the simulator, $1: as many of each model of a store that is never lost. What fails is printed with the
# command that shows it again. (Of stores that are lost docs/testing.md tells what is open.)
set -euo pipefail
for model in linearizable follower_reads no_watch evicting; do
  "$1" --model "$model" --seeds "${COORD_SIM_SEEDS:-5000}" --first-seed "${COORD_SIM_FIRST_SEED:-1}"
done
