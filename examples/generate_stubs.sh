#!/usr/bin/env bash
# Writes Python stubs of Sconce's protocol into a folder, for PYTHONPATH. Needs protoc and grpc_python_plugin (scripts/setup.sh).
#
#   examples/generate_stubs.sh FOLDER
set -euo pipefail
folder=$(realpath -m "${1:?"into which folder?"}")
mkdir -p "$folder"
cd "$(dirname "$0")/../proto"
find sconce inference google -name '*.proto' -print0 |
  xargs -0 protoc -I . --python_out="$folder" --grpc_out="$folder" --plugin=protoc-gen-grpc="$(command -v grpc_python_plugin)"
