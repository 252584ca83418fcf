#!/usr/bin/env bash
# Rehearses run.sh without a GPU: in a bare Debian without a network, with the CPU in place of CUDA, once as root
# and once as a user.
#
#   rehearse.sh        packs first, unless there are parts; prints both tables
#
# The Debian lies in .build/bookworm-bare, made by debootstrap once and kept; delete the folder for a new one. Variables of run.sh hold here too.
set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD=$ROOT/.build
SUITE=bookworm
DEBIAN=$BUILD/$SUITE-bare
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
GUEST=1234

cd "$ROOT"

say() { printf 'pg_reco: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

[ "$(id -u)" = 0 ] || die "a chroot needs root; run: sudo -E env PATH=\"\$PATH\" make cuda-rehearse"
for program in debootstrap unshare; do
    command -v "$program" >/dev/null || die "there is no $program; run: apt-get install debootstrap util-linux"
done
[ -e benches/cuda/parts/SHA256SUMS ] || make --no-print-directory cuda-kit

if [ ! -d "$DEBIAN" ]; then
    [ -e "$KEYRING" ] || die "Debian's signing keys are missing; run: apt-get install debian-archive-keyring"
    say "making a bare Debian $SUITE in $DEBIAN (a minute, once)"
    mkdir -p "$BUILD/log"
    rm -rf --one-file-system "$DEBIAN.new"
    debootstrap --variant=minbase --force-check-gpg --keyring="$KEYRING" "$SUITE" "$DEBIAN.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" \
        >"$BUILD/log/debootstrap-$SUITE-bare.log" 2>&1 || die "debootstrap failed (log: $BUILD/log/debootstrap-$SUITE-bare.log)"
    # What other images leave out. The kit has to do without.
    rm -rf "$DEBIAN.new/usr/share/zoneinfo" "$DEBIAN.new/usr/bin/setpriv" "$DEBIAN.new/bin/su"
    echo "guest:x:$GUEST:$GUEST::/:/bin/sh" >>"$DEBIAN.new/etc/passwd"
    mv "$DEBIAN.new" "$DEBIAN"
fi

rm -rf --one-file-system "$DEBIAN/srv/kit" "$DEBIAN"/tmp/*
mkdir -p "$DEBIAN/srv/kit"
cp -R benches/cuda/run.sh benches/cuda/parts "$DEBIAN/srv/kit/"

# Runs in namespaces of its own, so that mounts and processes end with it.
rehearse() { # UID
    local output=$DEBIAN/tmp/results-$1
    install -d -m 755 -o "$1" -g "$1" "$output"
    # shellcheck disable=SC2016 # the inner shell's own
    unshare --net --mount --pid --ipc --fork --kill-child bash -c '
        cd "$1" && mount -t proc proc proc && mount --rbind /dev dev && shift && exec chroot "$@"' bash "$DEBIAN" \
        --userspec="$1:$1" . env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PG_RECO_DEVICE=cpu \
        TITLES="${TITLES:-2000}" IMAGES="${IMAGES:-16}" ITEMS="${ITEMS:-20000}" USERS="${USERS:-500}" BATCHES="${BATCHES:-32 128}" \
        CLIENTS="${CLIENTS:-1 16 64}" LOAD_SECONDS="${LOAD_SECONDS:-2}" KILLED_SECONDS="${KILLED_SECONDS:-8}" \
        bash /srv/kit/run.sh "/tmp/results-$1"
    [ -z "$(find "$DEBIAN/tmp" -maxdepth 1 -name 'pg_reco.*')" ] || die "run.sh left its folder in $DEBIAN/tmp"
    ! grep -E '\| (failed|left out)' "$output/table.md" >&2 || failed=1
}

failed=0
for user in 0 "$GUEST"; do
    say "rehearsal as user $user"
    rehearse "$user" || failed=1
done
[ "$failed" = 0 ] || die "steps failed; logs are in $DEBIAN/tmp/results-*/logs"
