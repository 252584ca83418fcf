#!/usr/bin/env bash
# Packs what run.sh needs on a machine that has an NVIDIA GPU and nothing else, in parts of at most 60 MiB:
#
#   parts/kit.tar.zst.00 …           PostgreSQL, the extension, models without weights, SQL
#   parts/onnxruntime.tar.zst.00 …   ONNX Runtime with CUDA, which stay the same when the extension changes
#   parts/unpack.tar                 zstd with its libraries, which that machine may not have
#   parts/SHA256SUMS                 the hashes of these
#
# `make cuda-kit` runs it in the environment of the private cluster, after it has built everything. Shared libraries go along, but for
# those of glibc, which belong to the machine, as does NVIDIA's driver.
set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BUILD=$ROOT/.build
CUDA_LIBRARY=$BUILD/onnxruntime-cuda-kit
KIT=$BUILD/cuda-kit
PARTS=$ROOT/benches/cuda/parts
PART_SIZE=60M
PROGRAMS="postgres initdb pg_ctl psql pgbench"
# What `strip` can make a graph without weights of.
MODELS="all-minilm-l6-v2 efficientnet-lite0"
# Found on every Linux of the same glibc; another copy beside the machine's own would not fit its loader.
GLIBC='^(ld-linux.*|libc|libm|libmvec|libdl|libpthread|librt|libresolv|libutil|libnsl|libanl|libnss_.*)\.so'

cd "$ROOT"

die() {
    printf 'pg_reco: %s\n' "$*" >&2
    exit 1
}

[ -n "${PGRX_PG_CONFIG_PATH:-}" ] || die "the private cluster is not in the environment; run: make cuda-kit"
for program in patchelf zstd; do
    command -v "$program" >/dev/null || die "there is no $program; run: apt-get install $program"
done
[ -e "$CUDA_LIBRARY/libonnxruntime.so" ] || die "ONNX Runtime with CUDA is not there; run: make cuda-kit"
tool=${CARGO_TARGET_DIR:-target}/release/pg_reco_kit
cargo build --quiet --release --locked --package pg_reco_kit

install_root=$("$PGRX_PG_CONFIG_PATH" --bindir)
bin=$install_root
libraries=$("$PGRX_PG_CONFIG_PATH" --pkglibdir)
share=$("$PGRX_PG_CONFIG_PATH" --sharedir)
while [[ $libraries/ != "$install_root"/* || $share/ != "$install_root"/* ]]; do
    install_root=${install_root%/*}
done

# The way from a folder of the kit to its libraries, for the loader.
way_to_libraries() { # FILE
    printf '$ORIGIN/%s' "$(realpath --relative-to "$(dirname "$1")" "$KIT/lib")"
}

# DT_RPATH, not DT_RUNPATH: it also holds for what a library loads in turn. The program that prepares graphs is started with an
# empty environment, so that LD_LIBRARY_PATH would not reach it.
patch() { # FILE [MORE-FOLDERS]
    patchelf --force-rpath --set-rpath "${2:-}$(way_to_libraries "$1")" "$1"
}

# The libraries that files load, without glibc's.
libraries_of() { # FILE...
    # Scripts and static programs among them have none. A CUDA library that is missing here is the other machine's.
    { ldd "$@" 2>/dev/null || true; } | sed -nE 's/^\t(.*) => (\/[^ ]*) \(0x.*$/\1 \2/p' | sort -u | grep -vE "$GLIBC"
}

copy_postgres() {
    local to=$KIT/pg program file
    mkdir -p "$to/${bin#"$install_root"/}" "$to/${libraries#"$install_root"/}/pg_reco" "$to/${share#"$install_root"/}"
    for program in $PROGRAMS; do
        cp "$bin/$program" "$to/${bin#"$install_root"/}/"
    done
    # The compiler of plans needs LLVM, which is larger than all the rest.
    for file in "$libraries"/*.so; do
        [[ $file == */llvmjit*.so ]] || cp "$file" "$to/${libraries#"$install_root"/}/"
    done
    cp "$libraries/pg_reco/pg_reco_prepare" "$CUDA_LIBRARY"/libonnxruntime*.so "$to/${libraries#"$install_root"/}/pg_reco/"
    tar --create --directory "$share" --exclude ./man --exclude ./locale . | tar --extract --directory "$to/${share#"$install_root"/}"
    # Names that do not depend on the version.
    ln -s "pg/${bin#"$install_root"/}" "$KIT/programs"
    ln -s "pg/${libraries#"$install_root"/}/pg_reco" "$KIT/onnxruntime"
}

copy_libraries() {
    local name path
    mkdir -p "$KIT/lib"
    libraries_of "$KIT"/programs/* "$KIT"/programs/../lib/*.so "$KIT"/onnxruntime/* "$KIT/pg_reco_kit" | while read -r name path; do
        case $path in
            "$KIT"/*) ;;
            *) cp -L "$path" "$KIT/lib/$name" ;;
        esac
    done
    local file
    for file in "$KIT"/programs/* "$KIT/onnxruntime/pg_reco_prepare" "$KIT/pg_reco_kit"; do
        patch "$file"
    done
    # CUDA's libraries are laid beside the provider on the other machine.
    for file in "$KIT"/onnxruntime/libonnxruntime*.so; do
        patch "$file" '$ORIGIN:'
    done
}

copy_models() {
    local model
    for model in $MODELS; do
        [ -e "$BUILD/models/$model/model.onnx" ] || die "the model $model is not built; run: make cuda-kit"
        mkdir -p "$KIT/models/$model"
        "$tool" strip "$BUILD/models/$model/model.onnx" "$KIT/models/$model/skeleton"
        cp "models/$model.json" "$KIT/models/$model/manifest.json"
        [ ! -e "$BUILD/models/$model/tokenizer.json" ] || cp "$BUILD/models/$model/tokenizer.json" "$KIT/models/$model/"
    done
}

describe() {
    "$bin/postgres" --version
    echo "pg_reco $(sed -n "s/^default_version = '\(.*\)'/\1/p" "$share/extension/pg_reco.control") of $(git describe --always --dirty 2>/dev/null || echo 'no commit')"
    sed -n 's/^onnxruntime-gpu==\([^ ]*\).*/ONNX Runtime \1 with CUDA/p' pgrx-config/onnxruntime-cuda.txt
}

pack_unpacker() {
    local folder=$BUILD/cuda-unpack name path
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$(command -v zstd)" "$folder/zstd"
    libraries_of "$folder/zstd" | while read -r name path; do
        cp -L "$path" "$folder/$name"
    done
    patchelf --force-rpath --set-rpath '$ORIGIN' "$folder/zstd"
    tar --create --owner 0 --group 0 --directory "$folder" --file "$PARTS/unpack.tar" .
}

pack_archive() { # LEVEL FILE...
    tar --create --owner 0 --group 0 --sort name --directory "$KIT" "${@:2}" | zstd "-$1" -T0 --long=27 --quiet
}

split_archive() { # NAME
    split --bytes "$PART_SIZE" --numeric-suffixes - "$PARTS/$1.tar.zst."
}

# Most of the kit: packed once, and taken out of what is packed anew.
pack_onnxruntime() {
    local packed=$BUILD/onnxruntime-cuda-kit.tar.zst folder
    folder=$(realpath --relative-to "$KIT" "$KIT/onnxruntime")
    if [ ! "$packed" -nt "$CUDA_LIBRARY/libonnxruntime.so" ] || [ ! "$packed" -nt "$0" ]; then
        echo "pg_reco: packing ONNX Runtime with CUDA (minutes, once)" >&2
        (cd "$KIT" && printf '%s\n' "$folder"/libonnxruntime*.so) | pack_archive 19 --files-from - >"$packed.new"
        mv "$packed.new" "$packed"
    fi
    split_archive onnxruntime <"$packed"
    rm "$KIT/onnxruntime"/libonnxruntime*.so
}

rm -rf "$KIT" "$PARTS"
mkdir -p "$KIT" "$PARTS"
cp "$tool" "$KIT/pg_reco_kit"
copy_postgres
copy_libraries
copy_models
cp -R benches/cuda/sql "$KIT/sql"
describe >"$KIT/versions"
pack_unpacker
pack_onnxruntime
pack_archive 12 . | split_archive kit
(cd "$PARTS" && sha256sum -- *.tar* >SHA256SUMS)
ls -l "$PARTS" >&2
