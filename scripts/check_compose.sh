#!/usr/bin/env bash
# Checks docker-compose.yml where a client of compose is there to do it.
set -euo pipefail
cd "$(dirname "$0")/.."
if docker compose version >/dev/null 2>&1; then
  docker compose --profile gpu config -q
fi
