#!/usr/bin/env bash
# Lets the PyTorch of another Debian release judge the files we write: rewrites every fixture with tests/tools/rewrite_torch and runs
# judge_torch.py, which loads them with weights_only=True, in a throw-away root of that release. Then thousands of mutated ones
# (differential_torch.py).
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
cp tests/python/judge_torch.py "$folder"
for fixtures in "$shared"/fixtures/torch-*; do
  target=$folder/$(basename "$fixtures")
  mkdir "$target"
  cp "$fixtures/expected.json" "$target"
  for file in "$fixtures"/*; do
    name=$(basename "$file")
    # What the reader refuses (other kinds of files) is not there to be judged; the unit tests say which those may be.
    case $name in
      expected.json | legacy_general.pt | sparse.pt | quantized.pt | whole_model.pt | evil_system.pt | bnnet_scripted_* | bnnet_traced.pt) ;;
      *) "$build/tests/rewrite_torch" "$file" "$target/$name" ;;
    esac
  done
done
mkdir "$folder/mutated"
cp tests/python/differential_torch.py tests/support/judge.py "$folder"
/usr/bin/python3 tests/python/differential_torch.py --make "$folder/mutated" --count "${SCONCE_MUTATIONS:-10000}" "$shared"/fixtures/torch-* tests/data
(tool_path=$(realpath "$build/tests/rewrite_torch") && cd "$folder/mutated" && "$tool_path" --batch <list >answers)
"$tool" "$release" --packages "python3-torch python3-numpy" --bind "$folder" -- \
  sh -ec 'for d in /src/torch-*; do TORCH_SERIALIZATION_DEBUG=1 python3 /src/judge_torch.py $d/expected.json $(ls $d/* | grep -v expected.json); done
    python3 /src/differential_torch.py --judge /src/mutated'
