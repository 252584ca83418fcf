#!/usr/bin/env bash
# Renews the hash-locked requirements of models/, tests/, docs/ and benches/ from the .in files beside them. Needs `uv`.
# Packages already locked keep their version unless it says otherwise: lock-python.sh --upgrade
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for name in models/requirements tests/requirements docs/requirements benches/requirements benches/requirements-torch benches/requirements-pydvl \
    benches/requirements-synthesis benches/requirements-dpmm benches/requirements-serving; do
    overrides=$(cat pgrx-config/python-overrides.in)
    # SDV's networks need PyTorch, which is in a lock file of its own.
    [ "$name" != benches/requirements-synthesis ] || overrides+=$'\ntorch ; python_version < "0"'
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header \
        --override <(echo "$overrides") "$@" \
        --no-emit-package triton --output-file "$name.txt" "$name.in"
done
