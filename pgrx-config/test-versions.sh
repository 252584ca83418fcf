#!/usr/bin/env bash
# Tests the extension, with pgvector beside it, on the versions of PostgreSQL that other releases of Debian carry:
#
#   test-versions.sh [PYTEST-ARGUMENT...]
#
# Each version has a Debian of its own in .build/<suite>, made by debootstrap once and kept; delete the folder for a new one.
# In it the project's own set-up runs, on a copy of the working tree in /srv/pg_reco, and then the tests. What the machine has
# downloaded and built already is taken along, the Rust toolchain and the proxies that apt, pip and cargo use too.
# Variables: VERSIONS="17 18", DEBIAN_MIRROR=http://….
#
# Mounts and processes live in namespaces of their own: when this ends, however it ends, the kernel takes them away. Nothing of
# the machine can thus be reached through .build/<suite> afterwards, by `make clean` for one.
set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$ROOT/.build
CARGO_HOME=${CARGO_HOME:-${HOME:-/root}/.cargo}
# As in setup.sh: a toolchain from rustup is found even where it is not on the path, which is what sudo leaves behind.
PATH=$PATH:$CARGO_HOME/bin

cd "$ROOT"
. pgrx-config/versions.env

say() { printf 'pg_reco: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

suite_of() { # VERSION
    local pair
    for pair in $DEBIAN_SUITES; do
        [ "${pair%:*}" != "$1" ] || echo "${pair#*:}"
    done
}

# ------------------------------------------------------------------------------------------------------------- outside

check_machine() {
    local version program
    for version in $VERSIONS; do
        [ -n "$(suite_of "$version")" ] || die "VERSIONS names $version, for which there is no release of Debian; choose from: $DEBIAN_SUITES"
    done
    [ "$(id -u)" = 0 ] || die "other releases of Debian run in a chroot, which needs root; run: sudo -E env PATH=\"\$PATH\" make test-versions"
    for program in debootstrap unshare git; do
        command -v "$program" >/dev/null || die "there is no $program; run: apt-get install debootstrap util-linux git"
    done
    [ -n "$(archive_keyring)" ] || die "Debian's signing keys are missing; run: apt-get install debian-archive-keyring"
    command -v rustc >/dev/null || die "there is no Rust toolchain; install one with rustup (https://rustup.rs), then run this again"
    unshare --mount true 2>/dev/null || die "nothing can be mounted here; run this on a machine of its own, or in a privileged container"
    rustc --version >/dev/null 2>&1 || die "the toolchain of rust-toolchain.toml is missing; run: rustup toolchain install"
}

# One version after the other, so that they do not fight over the processors. All are tried, whatever the first says.
test_versions() { # PYTEST-ARGUMENT...
    check_machine
    # What is made here is the checkout's owner's, who may not be root.
    install -d "$BUILD" "$BUILD/log" "$BUILD/downloads"
    chown --reference="$ROOT" "$BUILD" "$BUILD/log" "$BUILD/downloads"
    exec 9>"$BUILD/test-versions.lock"
    flock --nonblock 9 || die "another make test-versions is running; wait for it to end, then run this again"
    local version log summaries=() failed=0
    # With job control the isolated part is a process group of its own, and not deaf to Ctrl-C.
    set -m
    for version in $VERSIONS; do
        log=$BUILD/log/test-versions-$version
        rm -f "$log.summary"
        unshare --mount --pid --ipc --fork --kill-child bash "$ROOT/pgrx-config/test-versions.sh" --isolated "$version" "$@" \
            </dev/null > >(tee "$log.log") 2>&1 &
        isolated=$!
        # Its first process would not hear a milder signal; with it goes all that it has started and mounted.
        trap 'kill -KILL "$isolated" 2>/dev/null || true; wait "$isolated" || true; remove_half_made; exit 130' INT TERM HUP
        wait "$isolated" || failed=1
        trap - INT TERM HUP
        remove_half_made
        summaries+=("$(cat "$log.summary" 2>/dev/null || echo "PostgreSQL $version ($(suite_of "$version")): failed before the tests; what was said is in $log.log")")
    done
    printf '%s\n' "${summaries[@]}"
    return $failed
}

# From outside, where nothing is mounted in them.
remove_half_made() {
    local pair
    for pair in $DEBIAN_SUITES; do
        rm -rf --one-file-system "$BUILD/${pair#*:}.new"
    done
}

# ------------------------------------------------------------------------------------------------------------ isolated

archive_keyring() {
    compgen -G '/usr/share/keyrings/debian-archive-keyring.[gp]*' | head -n 1
}

# The archive that the machine's own packages come from, where that is Debian's.
debian_mirror() {
    local found
    found=$(apt-get indextargets --format '$(ORIGIN):$(LABEL) $(REPO_URI)' 2>/dev/null |
        grep -E '^(Debian:Debian|:) https?://[^ ]*/debian/?$' | head -n 1) || true
    found=${DEBIAN_MIRROR:-${found#* }}
    echo "${found:-http://deb.debian.org/debian}"
}

make_debian() {
    local new=$debian.new script=/usr/share/debootstrap/scripts/$suite proxy=
    # A debootstrap that is older than the release does not know its name; the way is the same for all.
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    say "making a Debian $suite in $debian (a minute, once)"
    rm -rf --one-file-system "$new"
    ! command -v apt-config >/dev/null || eval "$(apt-config shell proxy Acquire::http::Proxy)"
    http_proxy=${http_proxy:-$proxy} debootstrap --variant=minbase --force-check-gpg --keyring="$(archive_keyring)" \
        --include=ca-certificates,make "$suite" "$new" "$(debian_mirror)" "$script" >"$BUILD/log/debootstrap-$suite.log" 2>&1 ||
        die "debootstrap failed: $(grep '^E:' "$BUILD/log/debootstrap-$suite.log" | head -n 1) (log: $BUILD/log/debootstrap-$suite.log)"
    debian=$new furnish
    # The package brings PostgreSQL along, which must not make a cluster that nobody asked for.
    install -d "$new/etc/postgresql-common/createcluster.d"
    echo 'create_main_cluster = false' >"$new/etc/postgresql-common/createcluster.d/pg_reco.conf"
    local packages=("postgresql-$version-pgvector")
    # The compiler of plans is a package of its own since 18.
    ! chroot "$new" apt-cache show "postgresql-$version-jit" >/dev/null 2>&1 || packages+=("postgresql-$version-jit")
    debian=$new within apt-get install --yes --no-install-recommends "${packages[@]}" >>"$BUILD/log/debootstrap-$suite.log" 2>&1 ||
        die "$suite's pgvector cannot be installed (log: $BUILD/log/debootstrap-$suite.log)"
    mv "$new" "$debian"
}

# The kernel's folders, and how to reach the network from here.
furnish() {
    local name file
    mount -t proc proc "$debian/proc"
    for name in dev sys; do
        mount --rbind "/$name" "$debian/$name"
    done
    mount -t tmpfs -o mode=1777 tmpfs "$debian/dev/shm"
    for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
        [ ! -e "$file" ] || cp --remove-destination -L "$file" "$debian$file"
    done
    for name in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CARGO_HTTP_CAINFO; do
        file=${!name:-}
        [ ! -f "$file" ] || install -D -m 644 "$file" "$debian$file"
    done
    # The lists of a release in the making expire within days, which a mirror of a fixed date never mends; they are signed.
    echo 'Acquire::Check-Valid-Until "false";' >"$debian/etc/apt/apt.conf.d/90pg_reco"
    ! command -v apt-config >/dev/null ||
        apt-config dump | grep -iE '^Acquire::https?::Proxy(::[^ ]*)? ' >>"$debian/etc/apt/apt.conf.d/90pg_reco" || true
}

# Runs a command in the chroot. Of the environment it gets what says how to reach the network.
within() { # COMMAND...
    local name passed=()
    for name in $(compgen -e | grep -iE '^(https?|all|no|ftp)_proxy$|^PIP_|^CARGO_(HTTP|NET|REGISTRIES|SOURCE)_|^(SSL_CERT|REQUESTS_CA|CURL_CA)_'); do
        passed+=("$name=${!name}")
    done
    env -i "${passed[@]}" HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" DEBIAN_FRONTEND=noninteractive PG_VERSION="$version" SQL="${SQL:-}" \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$debian" sh -c 'cd /srv/pg_reco 2>/dev/null; exec "$@"' sh "$@"
}

# The toolchain and the downloads are the machine's own. The crates are copies: cargo writes beside them, as root.
share_downloads() {
    local sysroot seed
    sysroot=$(rustc --print sysroot)
    install -d "$debian/opt/rust" "$debian/root/.cargo" "$tree/.build/downloads" "$BUILD/cargo-home/registry"
    mount --bind "$sysroot" "$debian/opt/rust"
    mount -o remount,bind,ro "$debian/opt/rust"
    for seed in registry/cache registry/index; do
        # Not while another cargo is half-way through a download.
        [ ! -d "$CARGO_HOME/$seed" ] || flock "$CARGO_HOME/.package-cache" cp -Ru "$CARGO_HOME/$seed" "$BUILD/cargo-home/registry/"
    done
    for seed in config.toml config; do
        [ ! -f "$CARGO_HOME/$seed" ] || cp "$CARGO_HOME/$seed" "$BUILD/cargo-home/"
    done
    mount --bind "$BUILD/cargo-home" "$debian/root/.cargo"
    mount --bind "$BUILD/downloads" "$tree/.build/downloads"
}

# By content: a file that is the same keeps its time, so that nothing is built again because of it.
copy_sources() {
    local list file
    list=$(mktemp)
    # Root may look at anybody's checkout.
    git -c safe.directory="$ROOT" ls-files -z --cached --others --exclude-standard >"$list"
    while IFS= read -r -d '' file; do
        # Deleted and not yet committed.
        [ -e "$file" ] || continue
        cmp --silent "$file" "$tree/$file" && continue
        mkdir -p "$(dirname "$tree/$file")"
        cp --remove-destination --preserve=mode "$file" "$tree/$file"
    done <"$list"
    rm "$list"
    find "$tree" \( -path "$tree/.build" -o -path "$tree/target" \) -prune -o -type f -printf '%P\0' |
        while IFS= read -r -d '' file; do
            [ -e "$file" ] || rm "$tree/$file"
        done
}

# What the set-up made on the machine and would make here again, byte for byte.
copy_made() {
    local folders=(onnxruntime demo-data) folder
    # cargo-pgrx is a program: should it not run here, the set-up builds another, which then stays.
    [ -d "$tree/.build/cargo-pgrx" ] || folders+=(cargo-pgrx)
    # Only models of these very manifests.
    [ ! -e "$BUILD/models/built" ] || [ -n "$(find models -newer "$BUILD/models/built" -type f ! -path '*/__pycache__/*' -print -quit)" ] || folders+=(models)
    for folder in "${folders[@]}"; do
        [ -d "$BUILD/$folder" ] || continue
        diff --brief --recursive "$BUILD/$folder" "$tree/.build/$folder" >/dev/null 2>&1 && continue
        rm -rf "$tree/.build/$folder" "$tree/.build/$folder.new"
        cp -R --preserve=mode,timestamps "$BUILD/$folder" "$tree/.build/$folder.new"
        mv "$tree/.build/$folder.new" "$tree/.build/$folder"
    done
    # Newer than the copied manifests.
    [[ " ${folders[*]} " != *" models "* ]] || touch "$tree/.build/models/built"
}

# A server's answer, from the private cluster.
ask() { # QUERY
    SQL=$1 within pgrx-config/setup.sh psql
}

isolated() { # VERSION PYTEST-ARGUMENT...
    version=$1
    suite=$(suite_of "$version")
    debian=$BUILD/$suite
    tree=$debian/srv/pg_reco
    shift
    # The first process of its namespace hears only the signals that it asks for.
    trap 'exit 130' INT TERM HUP
    if [ -d "$debian" ]; then
        furnish
    else
        make_debian
    fi
    # A new installation and a new cluster, whatever the last run, which may have been killed, has left.
    rm -rf "$tree"/.build/pg[0-9]* "$debian"/tmp/pg_reco-*
    share_downloads
    copy_sources
    copy_made

    trap 'within make stop || true' EXIT
    within make start
    within pgrx-config/setup.sh python-tests demo-data
    local server pgvector told=$BUILD/log/test-versions-$version status=0
    server=$(ask "SELECT 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)")
    pgvector=$(ask "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    [ -n "$pgvector" ] || die "$server in $debian has no pgvector; delete that folder and run this again"
    within pgrx-config/setup.sh run .build/venv/bin/python -m pytest tests "$@" | tee "$told.pytest" || status=$?
    # pytest's last line: "=== 7 passed, 2 skipped in 1.23s ===".
    echo "$server ($suite), pgvector $pgvector: $(sed -nE 's/^(=+ )?([0-9]+ .* in [0-9.]+s)( \([0-9:]+\))?( =+)?$/\2/; T; s/ passed/ tests passed/; p' "$told.pytest" | tail -n 1)" \
        >"$told.summary"
    rm "$told.pytest"
    return $status
}

VERSIONS=${VERSIONS:-$(for pair in $DEBIAN_SUITES; do echo "${pair%:*}"; done)}
if [ "${1:-}" = --isolated ]; then
    isolated "${@:2}"
else
    test_versions "$@"
fi
