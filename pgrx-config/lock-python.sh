#!/usr/bin/env bash
# Renews the hash-locked requirements of models/, tests/ and benches/ from the .in files beside them. Needs `uv`.
# Packages already locked keep their version unless it says otherwise: lock-python.sh --upgrade
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for folder in models tests benches; do
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header \
        --override pgrx-config/python-overrides.in "$@" \
        --output-file "$folder/requirements.txt" "$folder/requirements.in"
done
