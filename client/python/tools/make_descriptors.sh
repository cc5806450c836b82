#!/usr/bin/env bash
# Writes the protocol's descriptors, which the package carries instead of generated code. To be run when proto/ changes; a test says so.
#
#   client/python/tools/make_descriptors.sh [FILE]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "${1:-$here/../sconce/_proto/descriptors.binpb}")
cd "$here/../../../proto"
protoc -I . --include_imports --descriptor_set_out="$out" \
  sconce/v1/{admin_service,checkpoint,checkpoint_service,manifest,model_service,transfer_service}.proto \
  inference/grpc_service.proto google/rpc/{status,error_details}.proto
