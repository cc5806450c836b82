#!/usr/bin/env bash
# Prints the path of a grpcurl: the one on the PATH, or else one built with Go into build/tools, once. Exit code 1 when neither is possible.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v grpcurl; then exit 0; fi
tools=$PWD/build/tools
if [[ ! -x $tools/grpcurl ]]; then
  command -v go >/dev/null || { echo "grpcurl: neither grpcurl nor go is installed" >&2; exit 1; }
  mkdir -p "$tools"
  exec 9>"$tools/.lock"
  flock 9
  [[ -x $tools/grpcurl ]] || GOBIN=$tools GOFLAGS=-mod=mod go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.1 >&2 || exit 1
fi
echo "$tools/grpcurl"
