#!/usr/bin/env bash
# Builds and tests a copy of these sources in a throw-away root of another Debian release: Debian 13 (trixie) has LibTorch 2.6 and
# RocksDB 9.10, testing (forky) newer ones still. Needs root. The root is kept in /var/tmp/sconce-roots and used again.
#
#   scripts/debian_release.sh RELEASE [COMMAND [ARG]...]     default command: set up, build, run the unit tests and those of a newer LibTorch
set -euo pipefail
cd "$(dirname "$0")/.."

release=${1:?"which release? trixie or forky, say"}
shift
((EUID == 0)) || { echo "debian_release: needs root" >&2; exit 2; }
scripts/setup.sh --with roots

root=${SCONCE_ROOTS:-/var/tmp/sconce-roots}/$release
if [[ ! -e $root/.ready ]]; then
  rm -rf "$root"
  mkdir -p "$(dirname "$root")"
  script=/usr/share/debootstrap/scripts/$release
  [[ -e $script ]] || script=/usr/share/debootstrap/scripts/sid
  mirror=$(awk '/^URIs:/ {print $2; exit} /^deb / {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
  debootstrap --variant=minbase "$release" "$root" ${mirror:+"$mirror"} "$script" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
  touch "$root/.ready"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Testing's package lists are valid for a week only: a mirror that lags behind would be refused. The signatures are still checked.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90-lagging-mirror"

mounted=()
unmount() { for place in "${mounted[@]}"; do umount -l "$place" || true; done; }
trap unmount EXIT
mountpoint -q "$root/proc" || { mount -t proc proc "$root/proc"; mounted+=("$root/proc"); }
mountpoint -q "$root/dev" || { mount --rbind /dev "$root/dev"; mount --make-rslave "$root/dev"; mounted+=("$root/dev"); }

mkdir -p "$root/src"
find "$root/src" -mindepth 1 -maxdepth 1 ! -name 'build*' -exec rm -rf {} +
# Files get the time of this copy (-m): by their own, one changed before the last build in the root would pass as already built.
tar -c --exclude='./build*' --exclude=./.git --exclude=./sconce-data . | tar -x -m -C "$root/src"

if (($#)); then
  chroot "$root" env -C /src "$@"
else
  chroot "$root" env -C /src bash -c '
    scripts/setup.sh --with build --with torch --with test
    scripts/build.sh release
    ctest --test-dir build -j "$(nproc)" --output-on-failure -L "unit|contract|integration|new-torch"'
fi
