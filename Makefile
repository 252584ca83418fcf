# Everything that a user or a developer runs. The work is in pgrx-config/setup.sh; what it makes lies in .build/ and target/.
#
#   PG_VERSION=16              another major version of PostgreSQL than the newest installed
#   PG_CONFIG=/path/pg_config  another PostgreSQL than Debian's
#   ORT=cuda                   ONNX Runtime with its CUDA provider
#   VERSIONS="17 18"           the versions of PostgreSQL for test-versions
#   TORCH=1                    PyTorch among the peers of bench-recommend and bench-synthesis: 3 GB of downloads
#   ARGS='…'                   for pytest, the demonstration, the fuzzer or the benchmarks

SETUP := pgrx-config/setup.sh
PYTHON := .build/venv/bin/python

# A statement reaches psql through the environment as it was typed: neither make nor a shell reads its dollars and quotes.
override SQL := $(value SQL)
export SQL PG_VERSION PG_CONFIG ORT VERSIONS

.PHONY: help demo test faults fuzz test-versions lint setup models start stop restart psql install bench bench-kernels bench-recommend bench-importance bench-synthesis bench-search bench-prediction bench-serving cuda-kit cuda-rehearse docs clean

help:
	@echo "make demo                     search and recommendation on a retailer's data, from nothing"
	@echo "make test                     all tests, from nothing"
	@echo "make faults                   crashes, full disks, mutated models … at length; a quarter of an hour"
	@echo "make fuzz                     random statements, cancels and changed types, until the server dies or they are done; minutes"
	@echo "make test-versions            the server's tests on PostgreSQL 17 and 18 with pgvector, as root"
	@echo "make start                    the private cluster with the extension and the models, ready for psql"
	@echo "make psql [SQL='…']           psql on it; with SQL, one statement and bare rows"
	@echo "make stop                     stops it"
	@echo "make restart                  stops and starts it"
	@echo "make models                   builds the models and imports them into it"
	@echo "make install PG_CONFIG=…      the extension, into a server of yours"
	@echo "make lint                     format and clippy, as CI runs them"
	@echo "make bench                    the figures of benches/"
	@echo "make bench-kernels            the engine's kernels beside naive versions and libraries: cargo bench; minutes"
	@echo "make bench-recommend          the recommenders beside their peers; with TORCH=1 beside PyTorch too"
	@echo "make bench-importance         importance scores beside Python's"
	@echo "make bench-synthesis          synthetic rows beside Python's; with TORCH=1 beside SDV's networks too"
	@echo "make bench-search             rankings and speed of searches, beside BM25 in Python and pgvector with tsvector"
	@echo "make bench-prediction         predictors beside LightGBM and scikit-learn"
	@echo "make bench-serving            calls a second as clients are added, beside a Python server that batches"
	@echo "make cuda-kit                 packs all that a machine with an NVIDIA GPU needs to measure this: benches/cuda/"
	@echo "make cuda-rehearse            measures as that machine will, without a GPU, in a bare Debian; as root"
	@echo "make docs                     the documentation as a site, in .build/docs"
	@echo "make clean                    takes away all that was made here"

demo:
	@$(SETUP) all demo-data
	@$(SETUP) run $(PYTHON) docs/demo/demo.py $(ARGS)

# The engine first: it needs no server and fails fastest.
test:
	@$(SETUP) all python-tests demo-data
	cargo test --locked
	@$(SETUP) run $(PYTHON) -m pytest tests $(ARGS)

# What a server may go through, in the long form; the short one is part of `make test`.
faults:
	@$(SETUP) all python-tests demo-data
	@PG_RECO_FAULTS=long $(SETUP) run $(PYTHON) -m pytest tests/faults $(ARGS)

# ARGS='--statements 100000 --seed 7'. With PG_CONFIG of a PostgreSQL that was configured with --enable-cassert it sees more.
fuzz:
	@$(SETUP) all python-tests
	@$(SETUP) run $(PYTHON) tests/hostile/fuzz.py $(ARGS)

# Other releases of Debian, in chroots: root, and debootstrap.
test-versions:
	@pgrx-config/test-versions.sh $(ARGS)

lint:
	@$(SETUP) system postgres
	python3 .ci/circles.py
	cargo fmt --check
	@$(SETUP) run sh -c 'set -x; cargo clippy --locked --workspace --all-targets --no-default-features --features "pg_reco/$$PG_FEATURE" -- -D warnings'

setup models start:
	@$(SETUP) all

stop:
	@$(SETUP) stop

restart:
	@$(SETUP) stop all

psql:
	@$(SETUP) psql

install:
	@$(SETUP) install

bench:
	@$(SETUP) all python-bench demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/run.py $(ARGS)

bench-kernels:
	cargo bench --locked $(ARGS)

# An hour or so; most of it is the peers', once.
bench-recommend:
	@$(SETUP) all python-bench $(if $(TORCH),python-bench-torch) demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/recommenders.py $(ARGS)

# Half an hour; Python's peers take most of it, once.
bench-importance:
	@$(SETUP) all python-bench python-bench-pydvl demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/importance.py $(ARGS)

# Half an hour; most of it is the peers', once.
bench-synthesis:
	@$(SETUP) all python-bench python-bench-synthesis python-bench-dpmm $(if $(TORCH),python-bench-torch) demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/synthesis.py $(ARGS)

# An hour: most of it makes the indexes of a million rows on each side.
bench-search:
	@$(SETUP) all python-bench demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/run.py $(ARGS) search

# A quarter of an hour.
bench-prediction:
	@$(SETUP) all python-bench demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/run.py $(ARGS) prediction

# Half an hour. The load of the Python server comes from wrk, which Debian has; without it that part is left out.
bench-serving:
	@$(SETUP) all python-bench python-bench-serving demo-data
	@$(SETUP) run .build/venv-bench/bin/python benches/run.py $(ARGS) serving

# For a machine that has a GPU and none of this; minutes, most of them compression.
cuda-kit:
	@$(SETUP) system cargo-pgrx python onnxruntime models postgres extension cuda-kit
	@$(SETUP) run benches/cuda/pack.sh

cuda-rehearse:
	@benches/cuda/rehearse.sh

# Strict: a link to nowhere fails.
docs:
	@$(SETUP) python-docs
	@.build/venv-docs/bin/mkdocs build
	@echo "the documentation is in .build/docs/index.html"

clean:
	@$(SETUP) clean
