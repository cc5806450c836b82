#!/usr/bin/env bash
# Installs what building and testing Sconce needs and this machine lacks, from Debian's own packages, and says what it installs.
# When nothing is missing it does nothing, and says so in under a second.
#
#   scripts/setup.sh [--with GROUP]... [--check]
#
#   --with GROUP   build, torch, test, fuzz, bench, lint or roots; may be repeated. Without it: build and torch.
#   --check        install nothing; list what is missing and exit 1 if anything is.
set -euo pipefail

# "a|b" is whichever of them this Debian release has, the first one first.
declare -A groups=(
  [build]="g++ make cmake ninja-build ccache pkg-config protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev
           libgrpc-dev librocksdb-dev libabsl-dev libssl-dev libxxhash-dev libisal-dev zlib1g-dev prometheus-cpp-dev"
  [torch]="libtorch-dev libopenblas0-openmp"
  [test]="libgtest-dev libgmock-dev nlohmann-json3-dev python3 python3-torch python3-numpy python3-grpcio python3-protobuf python3-pytest python3-prometheus-client
         python3-xxhash python3-tqdm python3-setuptools python3-wheel python3-venv mypy openssl"
  [fuzz]="clang-14|clang libclang-rt-14-dev|libclang-rt-dev"
  [bench]="libbenchmark-dev"
  [lint]="clang-format-14|clang-format"
  [roots]="debootstrap ca-certificates python3-venv"
)

die() { echo "setup: $*" >&2; exit 2; }

wanted=() check=no
while (($#)); do
  case $1 in
    --with) [[ -n ${2:-} && -n ${groups[${2:-}]:-} ]] || die "--with takes one of: ${!groups[*]}"; wanted+=("$2"); shift 2 ;;
    --check) check=yes; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (try --help)" ;;
  esac
done
((${#wanted[@]})) || wanted=(build torch)

command -v dpkg-query >/dev/null || die "this is no Debian: install the equivalents of these packages yourself: $(for g in "${wanted[@]}"; do echo -n "${groups[$g]} "; done)"

choices=()
for group in "${wanted[@]}"; do read -r -d '' -a names <<<"${groups[$group]}" || true; choices+=("${names[@]}"); done

declare -A installed=()
while read -r status name; do
  [[ $status != installed ]] || installed[${name%%:*}]=1
done < <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $(tr '|' ' ' <<<"${choices[*]}") 2>/dev/null || true)

missing=()
for choice in "${choices[@]}"; do
  have=no
  for name in ${choice//|/ }; do [[ -z ${installed[$name]:-} ]] || have=yes; done
  [[ $have = yes ]] || missing+=("$choice")
done

if ((${#missing[@]} == 0)); then
  echo "setup: nothing to install (${wanted[*]})"
  exit 0
fi
if [[ $check = yes ]]; then
  echo "setup: missing: ${missing[*]}"
  exit 1
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || die "run this as root, or install sudo: missing are ${missing[*]}"
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@"; }

echo "setup: ${#missing[@]} missing, fetching the package lists"
apt update

packages=()
for choice in "${missing[@]}"; do
  found=
  for name in ${choice//|/ }; do
    policy=$(apt-cache policy "$name")
    if [[ $policy == *"Candidate: "* && $policy != *"Candidate: (none)"* ]]; then found=$name; break; fi
  done
  [[ -n $found ]] || die "this Debian release has none of: ${choice//|/ }"
  packages+=("$found")
done
echo "setup: installing ${packages[*]}"
apt install -y --no-install-recommends "${packages[@]}"
echo "setup: installed ${packages[*]}"
