#!/usr/bin/env bash
# Lets the PyTorch of another Debian release judge the files we write, in a throw-away root of that release: every fixture, read and
# written again (judge_torch.py by its expected.json, judge_pairs.py by what it was), and trees made by hand (judge_written.py). Then
# thousands of mutated ones (differential_torch.py), plans of warm starts (judge_plans.py), and calls that no torch.save writes
# (judge_calls.py).
#
#   tests/python/judge_in_root.sh RELEASE [BUILD_FOLDER]      e.g. trixie (PyTorch 2.6), forky (2.14)
#
# Needs root, and DEBIAN_ROOT_TOOL (a script that runs a command in such a root with a folder bound at /src); without it, or without the
# shared fixtures, it says so and exits 77.
set -euo pipefail
cd "$(dirname "$0")/../.."

release=${1:?"judge_in_root.sh: which Debian release?"}
build=${2:-build}
shared=${SCONCE_SHARED_DIR:-../shared}
[[ -d $shared/fixtures ]] || shared=../../shared
tool=${DEBIAN_ROOT_TOOL:-$shared/tools/debian-root.sh}
if [[ ! -d $shared/fixtures || ! -x $tool ]]; then
  echo "skipped: needs the shared fixtures (SCONCE_SHARED_DIR) and a tool that makes Debian roots (DEBIAN_ROOT_TOOL)"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/tests" "$folder/kinds"
cp -r tests/python tests/support "$folder/tests"
"$build/tests/write_kinds" "$folder/kinds"
for fixtures in "$shared"/fixtures/torch-*; do
  name=$(basename "$fixtures")
  mkdir -p "$folder/originals/$name" "$folder/rewritten/$name"
  for file in "$fixtures"/*; do
    # What the reader refuses (code, and other kinds of files) is not there to be judged.
    case $(basename "$file") in
      expected.json | whole_model.pt | evil_system.pt | bnnet_scripted_* | bnnet_traced.pt) continue ;;
    esac
    cp "$file" "$folder/originals/$name"
    "$build/tests/rewrite_torch" "$file" "$folder/rewritten/$name/$(basename "$file")"
  done
  cp "$fixtures/expected.json" "$folder/originals/$name"
done
mkdir "$folder/mutated"
/usr/bin/python3 tests/python/differential_torch.py --make "$folder/mutated" --count "${SCONCE_MUTATIONS:-10000}" "$shared"/fixtures/torch-* tests/data tests/data/objects
(tool_path=$(realpath "$build/tests/rewrite_torch") && cd "$folder/mutated" && "$tool_path" --batch <list >answers)
mkdir "$folder/calls"
/usr/bin/python3 tests/python/judge_calls.py --make "$folder/calls"
(tool_path=$(realpath "$build/tests/rewrite_torch") && cd "$folder/calls" && "$tool_path" --batch <list >answers)
in_root() {
  "$tool" "$release" --packages "python3-torch python3-numpy" --bind "$folder" -- sh -ec "$1"
}
mkdir "$folder/plans"
in_root 'cd /src/tests/python; python3 judge_plans.py --make /src/plans'
(tool_path=$(realpath "$build/tests/plan_pairs") && cd "$folder/plans" && "$tool_path" <list >answers)
in_root '
  cd /src/tests/python
  for d in /src/rewritten/*; do
    TORCH_SERIALIZATION_DEBUG=1 python3 judge_torch.py "/src/originals/$(basename "$d")/expected.json" "$d"/*
  done
  python3 judge_pairs.py /src/originals /src/rewritten
  python3 judge_written.py --files /src/kinds
  python3 judge_plans.py --judge /src/plans
  python3 judge_calls.py --judge /src/calls
  python3 judge_calls.py --check /src/calls
  python3 differential_torch.py --judge /src/mutated'
