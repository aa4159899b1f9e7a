#!/usr/bin/env bash
# One round on each engine that can be had, from any seed; what fails says how to run it again.
set -euo pipefail
"$1" --rounds 3 --faults 4
