#!/usr/bin/env bash
# Builds what is missing and runs sconced on ./sconce-data; more flags may follow, e.g. scripts/serve.sh --listen 0.0.0.0:7433
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --with build --with torch --with test
scripts/build.sh release
exec build/bin/sconced --data-dir ./sconce-data "$@"
