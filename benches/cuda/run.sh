#!/usr/bin/env bash
# Measures the extension on a machine with an NVIDIA GPU, from the parts that pack.sh made:
#
#   run.sh [OUTPUT-FOLDER]      leaves table.md and logs in the folder, ./results by default
#
# It needs an x86-64 Linux, NVIDIA's driver and CUDA's libraries; README.md says which, and what the variables below mean. A server of its own
# runs in a temporary folder, listens on a socket there, and is gone with the folder at the end. What fails is a row of the table with its
# error, and the rest goes on.
set -uo pipefail
umask 022

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
DEVICE=${PG_RECO_DEVICE:-cuda}
GPU=${PG_RECO_GPU:-0}
TITLES=${TITLES:-200000}
IMAGES=${IMAGES:-512}
ITEMS=${ITEMS:-1000000}
USERS=${USERS:-20000}
BATCHES=${BATCHES:-32 128 512 1024}
CLIENTS=${CLIENTS:-1 16 64 256}
LOAD_SECONDS=${LOAD_SECONDS:-4}
# The time for a worker to come back, and to load its graphs.
KILLED_SECONDS=${KILLED_SECONDS:-16}
# Steps that would begin later than this many seconds after the start are left out.
TIME_LIMIT=${TIME_LIMIT:-345}
SEED=7
LOADED_BY_NAME="libcudnn.so.9 libcufft.so.12 libnvrtc.so.13"
CORES=$(nproc)

mkdir -p "${1:-results}/logs" || exit 1
OUTPUT=$(cd "${1:-results}" && pwd -P)
TABLE=$OUTPUT/table.md
: >"$TABLE"
work=$(mktemp -d "${TMPDIR:-/tmp}/pg_reco.XXXXXX") || exit 1
kit=$work/kit
user=$(id -u)
# PostgreSQL does not run as root, and initdb wants a user that has a name.
[ "$user" != 0 ] || user=$(id -u nobody 2>/dev/null || echo 65534)

say() { printf 'pg_reco: %s\n' "$*" >&2; }

write() { printf '%s\n' "$*" | tee -a "$TABLE"; }

die() {
    write "$*"
    exit 1
}

# ---------------------------------------------------------------------------------------------------------- the server

# Errors with a stack trace would be slow, and other servers' clients have settings of their own.
unset RUST_BACKTRACE PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGDATA PGOPTIONS PGSERVICE

as_server() { # COMMAND...
    if [ "$(id -u)" = 0 ]; then
        env HOME="$work" "$kit/pg_reco_kit" as-user "$user" "$@"
    else
        env HOME="$work" "$@"
    fi
}

# shellcheck disable=SC2317 # called by the trap
clean_up() {
    trap - EXIT
    stop_samples
    if [ -e "$work/data/postmaster.pid" ]; then
        as_server "$kit/programs/pg_ctl" stop --silent --mode immediate --pgdata "$work/data" >/dev/null 2>&1
    fi
    cp "$work/server.log" "$OUTPUT/logs/" 2>/dev/null
    rm -rf "$work"
}

unpack() {
    local parts=$HERE/parts
    [ -e "$parts/SHA256SUMS" ] || die "There are no parts in $parts; make cuda-kit makes them."
    (cd "$parts" && sha256sum --check --quiet SHA256SUMS) >"$OUTPUT/logs/parts.log" 2>&1 ||
        die "A part is missing or not what was packed; see logs/parts.log."
    mkdir "$work/unpack" "$kit"
    tar --extract --file "$parts/unpack.tar" --directory "$work/unpack" &&
        unpack_archive kit && unpack_archive onnxruntime || die "The parts cannot be unpacked."
    "$kit/programs/postgres" --version >>"$OUTPUT/logs/parts.log" 2>&1 ||
        die "The programs do not run here, perhaps for the version of glibc; see logs/parts.log."
    # A checkout's SQL may be newer than the packed one.
    [ ! -d "$HERE/sql" ] || cp "$HERE"/sql/*.sql "$kit/sql/"
}

unpack_archive() { # NAME
    cat "$HERE/parts/$1.tar.zst".* | "$work/unpack/zstd" --decompress --quiet --long=27 | tar --extract --no-same-owner --directory "$kit"
}

draw() {
    local folder
    for folder in "$kit"/models/*; do
        "$kit/pg_reco_kit" draw "$folder/skeleton" "$folder/model.onnx" "$SEED" || die "The weights of ${folder##*/} cannot be drawn."
        rm "$folder/skeleton"
    done
    "$kit/pg_reco_kit" images "$work/images" "$IMAGES" "$SEED" || die "The images cannot be drawn."
}

settings() {
    cat <<EOF
listen_addresses = ''
unix_socket_directories = '$work'
max_connections = 400
shared_buffers = 1GB
max_wal_size = 2GB
# Nothing here is to outlive a crash.
fsync = off
full_page_writes = off
jit = off
shared_preload_libraries = 'pg_reco'
reco.execution_provider = '$DEVICE'
reco.device_id = $GPU
reco.onnxruntime_library = '$kit/onnxruntime/libonnxruntime.so'
EOF
    # A container may have next to no /dev/shm, through which texts and vectors pass.
    [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 1000000 ] 2>/dev/null || echo 'dynamic_shared_memory_type = mmap'
}

start() {
    [ "$(id -u)" != 0 ] || chown -R "$user:$user" "$work"
    as_server "$kit/programs/initdb" --pgdata "$work/data" --username postgres --auth trust --encoding UTF8 --locale C --no-sync \
        >"$OUTPUT/logs/initdb.log" 2>&1 || die "initdb failed; see logs/initdb.log."
    settings >"$work/settings"
    echo "include '$work/settings'" | as_server tee -a "$work/data/postgresql.conf" >/dev/null
    as_server "$kit/programs/pg_ctl" start --silent --wait --timeout 60 --pgdata "$work/data" --log "$work/server.log" \
        >"$OUTPUT/logs/start.log" 2>&1 </dev/null || die "The server does not start; see logs/server.log."
}

# A file of SQL, within the time of the step.
sql() { # FILE [NAME=VALUE...]
    local file=$1 variables=() variable
    for variable in "device=$DEVICE" "titles=$TITLES" "${@:2}"; do
        variables+=(--set "$variable")
    done
    # The server's limit first: it ends the call, where the other leaves it running.
    as_server env PGOPTIONS="-c statement_timeout=${LIMIT}s" timeout --kill-after 5 $((LIMIT + 5)) "$kit/programs/psql" \
        -XAtq --set ON_ERROR_STOP=1 --host "$work" --username postgres "${variables[@]}" --file "$kit/sql/$file.sql" postgres
}

# Calls of many clients, within the time of the step; the log of each call in the folder $work/load.
load() { # CLIENTS SECONDS SCRIPT
    rm -rf "$work/load"
    as_server mkdir "$work/load" || return
    as_server env PGOPTIONS="-c reco.preload_models=all-minilm-l6-v2" timeout --kill-after 5 "$LIMIT" "$kit/programs/pgbench" \
        --no-vacuum --protocol prepared --client "$1" --jobs $(($1 < CORES ? $1 : CORES)) --time "$2" --define "titles=$TITLES" \
        --file "$kit/sql/$3.sql" --log --log-prefix "$work/load/log" --host "$work" --username postgres postgres >&2 || return
}

# --------------------------------------------------------------------------------------------------------- the device

have_nvidia_smi() { [ "$DEVICE" = cuda ] && command -v nvidia-smi >/dev/null; }

ask_device() { nvidia-smi --id="$GPU" --query-gpu="$1" --format=csv,noheader,nounits "${@:2}"; }

# Samples of use and memory while a step runs, and a row of them.
sampled() { # NAME LIMIT COMMAND...
    sampler=
    if have_nvidia_smi; then
        ask_device utilization.gpu,memory.used --loop-ms=200 >"$work/samples" 2>/dev/null &
        sampler=$!
    fi
    step "$@"
    local status=$?
    stop_samples
    [ $status != 0 ] || ! have_nvidia_smi || write_samples "$1"
    return $status
}

stop_samples() {
    [ -z "${sampler:-}" ] || { kill "$sampler" && wait "$sampler"; } 2>/dev/null
    sampler=
}

write_samples() { # WHAT
    local use memory count=0 sum=0 most=0 share=unknown
    while IFS=', ' read -r use memory; do
        # A device in partitions does not say how busy it is.
        [[ ! $use =~ ^[0-9]+$ ]] || count=$((count + 1)) sum=$((sum + use))
        [[ ! $memory =~ ^[0-9]+$ ]] || most=$((memory > most ? memory : most))
    done <"$work/samples"
    [ $count = 0 ] || share="$((sum / count)) %"
    write "| - $1, by nvidia-smi | share of time in use: $share; memory at most: $((most - memory_before)) MiB more than before the start |"
}

# CUDA's libraries, laid beside the provider that loads them, as `make … ORT=cuda` does.
lay_cuda() {
    local folder missing
    lay_from < <(cuda_folders)
    # Packages of other Pythons than the first.
    [ -z "$(missing_libraries)" ] || lay_from < <(timeout 20 find / -xdev -path '*/nvidia/*/lib' -type d 2>/dev/null)
    # The driver's own library, where only an environment variable says where it is.
    for folder in /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/nvidia/lib64 $(tr : " " <<<"${LD_LIBRARY_PATH:-}"); do
        ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1 ' && break
        [ ! -e "$folder/libcuda.so.1" ] || ln -s "$folder"/libcuda.so* "$folder"/libnvidia-*.so* "$kit/onnxruntime/" 2>/dev/null
    done
    missing=$(missing_libraries)
    [ -z "$missing" ] || write "Missing libraries of CUDA: $(tr '\n' ' ' <<<"$missing"). CUDA_LIBRARIES names their folders."
}

cuda_folders() {
    local python
    tr ':' '\n' <<<"${CUDA_LIBRARIES:-}"
    for python in python3 python; do
        "$python" -c 'import glob, nvidia
for folder in nvidia.__path__: print("\n".join(glob.glob(folder + "/*/lib")))' 2>/dev/null
    done
    tr ':' '\n' <<<"${LD_LIBRARY_PATH:-}"
    printf '%s\n' /usr/local/cuda/lib64 /usr/local/cuda/targets/x86_64-linux/lib
}

# Of each folder that has a missing library all libraries: cuDNN loads its parts by name.
lay_from() {
    local folder library
    while read -r folder; do
        for library in $(missing_libraries); do
            [ -e "$folder/$library" ] || continue
            # Root's own folders are closed to the server's user.
            if as_server test -r "$folder/$library"; then
                ln -s "$folder"/*.so* "$kit/onnxruntime/" 2>/dev/null
            else
                cp -L "$folder"/*.so* "$kit/onnxruntime/"
            fi
            break
        done
    done
}

missing_libraries() {
    ldd "$kit/onnxruntime/libonnxruntime_providers_cuda.so" | sed -n 's/^\t\(.*\) => not found$/\1/p'
    # What is loaded by name, when it is first needed.
    local library
    for library in $LOADED_BY_NAME; do
        [ -e "$kit/onnxruntime/$library" ] || ldconfig -p 2>/dev/null | grep -q "^\s$library " || echo "$library"
    done
}

# ----------------------------------------------------------------------------------------------------------- the steps

# Runs a step and writes the rows that it prints, or a row with its error.
step() { # NAME LIMIT COMMAND...
    local name=$1 limit=$2 log rows left=$((TIME_LIMIT - SECONDS))
    log=$OUTPUT/logs/${name//[^A-Za-z0-9]/-}.log
    if [ $left -lt 5 ]; then
        write "| $name | left out: the time of $TIME_LIMIT s is over |"
        return 1
    fi
    say "$name"
    LIMIT=$((limit < left ? limit : left))
    rows=$("${@:3}" 2>"$log")
    local status=$?
    [ -z "$rows" ] || write "$rows"
    [ $status = 0 ] || write "| $name | failed: $(cause "$log" $status) |"
    return $status
}

cause() { # LOG STATUS
    local line
    line=$(grep -m 1 -E '(ERROR|FATAL|PANIC|error): ' "$1")
    if [[ $line =~ (ERROR|FATAL|PANIC|error):\ +(.*) ]]; then
        echo "${BASH_REMATCH[2]//|/\\|}"
    else
        echo "status $2; see logs/${1##*/}"
    fi
}

embed() { # WHAT CALL ROWS STORE
    sql embed_query "what=$1" "call=$2" "rows=$3" "store=$4"
}

calls() { # CLIENTS
    # pgbench counts the time in which its clients connect, about 50 of them a second.
    load "$1" $((LOAD_SECONDS + $1 / 50)) call || return
    cat "$work"/load/log* | sql calls "what=$1 clients"
}

set_batch() { # ROWS
    as_server "$kit/programs/psql" -Xq --host "$work" --username postgres --command "ALTER SYSTEM SET reco.max_batch = $1" \
        --command 'SELECT pg_reload_conf()' --output /dev/null postgres && sleep 1
}

# SIGTERM to the device's worker while clients call.
killed() {
    local pid signaled loading
    load 16 "$KILLED_SECONDS" call_or_note &
    loading=$!
    sleep 4
    pid=$(sql worker) && [ -n "$pid" ] || { echo "error: no worker of the device is running" >&2; wait $loading; return 1; }
    signaled=$(date +%s.%N)
    kill -TERM "$pid"
    wait $loading || return
    cat "$work"/load/log* | sql killed "killed=$signaled"
}

measure() {
    local batch=default clients
    # Without a device that works the steps on the CPU go on.
    step "import" 60 sql import "models=$kit/models" "provider=$DEVICE" ||
        step "import on the CPU" 60 sql import "models=$kit/models" provider=cpu || return
    step "data" 60 sql data "images=$work/images" "tokenizer=$kit/models/all-minilm-l6-v2/tokenizer.json" || return
    step "vectors" 60 sql vectors
    for batch in $BATCHES; do
        set_batch "$batch"
        sampled "embed_query, reco.max_batch $batch" 60 \
            embed "embed_query of $TITLES titles, reco.max_batch $batch" "reco.embed_query('TABLE title')" "$TITLES" 0
    done
    step "embed_query, stored" 60 \
        embed "embed_query of $TITLES titles, reco.max_batch $batch, rows stored" "reco.embed_query('TABLE title')" "$TITLES" 1
    step "embed_images" 30 embed "embed_images of $IMAGES images" "reco.embed_images('TABLE image')" "$IMAGES" 0
    set_batch DEFAULT
    for clients in $CLIENTS; do
        sampled "calls, $clients clients" 60 calls "$clients"
    done
    step "workers" 10 sql workers
    step "cancel" 30 sql cancel after=500ms
    step "killed worker" 60 killed
    step "train" 120 sql train "items=$ITEMS" "users=$USERS" || return
    step "recommend_all on the CPU" 60 sql recommend provider=cpu lists=lists_of_cpu "items=$ITEMS"
    sampled "recommend_all on the device" 60 sql recommend "provider=$DEVICE" lists=lists_of_device "items=$ITEMS"
    step "lists" 30 sql lists
}

describe() {
    write "# pg_reco on $([ "$DEVICE" = cuda ] && echo CUDA || echo 'the CPU: a rehearsal, no GPU')"
    write
    write "- $(date -u '+%Y-%m-%d %H:%M') UTC"
    if have_nvidia_smi; then
        write "- GPU: $(ask_device name,driver_version,memory.total | sed 's/, /, driver /; s/, \([0-9]*\)$/, \1 MiB/')"
    elif [ "$DEVICE" = cuda ]; then
        write "- GPU: $(sed -n 's/^Model: *\t*//p' /proc/driver/nvidia/gpus/*/information 2>/dev/null | sort | uniq -c | xargs); there is no nvidia-smi"
    fi
    write "- processor: $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -n 1), $CORES cores"
    write "- $(getconf GNU_LIBC_VERSION), Linux $(uname -r)"
    write "- $(tr '\n' ';' <"$kit/versions" | sed 's/;$//; s/;/; /g')"
}

trap clean_up EXIT
trap 'exit 130' INT TERM HUP
case $DEVICE in
    cuda | cpu) ;;
    *) die "PG_RECO_DEVICE=$DEVICE is neither cuda nor cpu." ;;
esac
unpack
describe
[ "$DEVICE" = cpu ] || lay_cuda
memory_before=0
! have_nvidia_smi || memory_before=$(ask_device memory.used)
draw
start
write
write "| what | result |"
write "|---|---|"
measure
write
write "$SECONDS s in all."
