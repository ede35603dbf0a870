# `make` alone lists the targets. Everything lives in .venv; nothing needs root.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Touched after a complete installation, so that a second `make setup` costs nothing.
STAMP := $(VENV)/installed
SEED ?= $(shell date +%s)
SECONDS ?= 60
ROUNDS ?= 200
ROLLS ?= 10
CHANGES ?= 100
SEQUENCES ?= 50000
SEEDS ?= 1..500
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
INPUTS ?= 10000000
TESTED := scripts tests/support/cluster.py tests/support/history.py \
	tests/support/linearizability.py tests/chaos tests/differential tests/torture tests/sim \
	tests/overload tests/support/cgroup.py tests/support/docker.py tests/docker \
	tests/rolling
# The image: its name, and how it is built. The classic builder is there in every Docker.
IMAGE ?= kvnode:latest
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DOCKER_BUILD ?= DOCKER_BUILDKIT=0 docker build --network host

.DEFAULT_GOAL := help
.PHONY: help setup demo test check raft-coverage bench bench-peers sim sim-bugs chaos chaos-faults chaos-smoke chaos-members overload \
	conformance differential fuzz-wal torture torture-broken torture-disk image base-image docker-test roll lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything that development needs

$(STAMP): requirements-dev.txt pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "kvnode needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit( \
		f"kvnode needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}" if v < (3, 11) else 0)'
	@command -v cc >/dev/null || command -v gcc >/dev/null || { \
		echo "a C compiler (gcc) is needed: without one pip would silently install a checksum" \
			"library that is 35 times slower" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -c 'from crcmod.crcmod import _usingExtension; \
		_usingExtension or print("warning: crcmod has no C extension (are the Python headers installed?)")'
	@touch $(STAMP)

demo: $(STAMP) ## three nodes on this machine, until Ctrl-C
	@exec $(BIN)/python -m scripts.demo

test: $(STAMP) ## all tests
	$(BIN)/python -m pytest

check: $(STAMP) ## lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict --explicit-package-bases $(TESTED)
	$(BIN)/lint-imports

raft-coverage: $(STAMP) ## every line and branch of raft/ is reached by its tests (needs coverage)
	@$(BIN)/python -c 'import coverage' 2>/dev/null || { \
		echo "coverage is not installed: $(BIN)/pip install coverage" >&2; exit 1; }
	@mkdir -p build
	$(BIN)/python -m coverage run --branch --source=raft --data-file=build/raft.coverage \
		-m pytest -q tests/unit/raft tests/scenarios --ignore tests/unit/raft/test_raft_exploration.py
	$(BIN)/python -m coverage report --data-file=build/raft.coverage --show-missing --fail-under=100

bench: $(STAMP) ## hot-path figures beside a null server (PEERS=1: and beside the peers)
	$(BIN)/python -m scripts.bench.hot_path
	$(if $(PEERS),$(BIN)/python -m scripts.bench.side_by_side)

bench-peers: $(STAMP) ## redis-server, etcd and PySyncObj beside kvnode, as far as installed
	$(BIN)/python -m scripts.bench.side_by_side

sim: $(STAMP) ## 500 simulated clusters, each with its own misfortunes (SEEDS=A..B)
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(JOBS)

sim-bugs: $(STAMP) ## plant mistakes in the product: the simulator finds each (JOBS=)
	$(BIN)/python -m tests.sim.hunt --jobs $(JOBS)

chaos: $(STAMP) ## every fault that this machine allows, one or two at a time (SEED=, SECONDS=)
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED)

chaos-faults: $(STAMP) ## each fault alone takes hold and is taken back
	KVNODE_ALL_FAULTS=1 $(BIN)/python -m pytest tests/chaos/test_faults.py

chaos-smoke: $(STAMP) ## kill -9 under load, then check every promise (SEED=, SECONDS=)
	$(BIN)/python -m tests.chaos.smoke --seconds $(SECONDS) --seed $(SEED)
	$(BIN)/python -m tests.chaos.broken --seed $(SEED)

chaos-members: $(STAMP) ## members come and go under load and kill -9 (SEED=, CHANGES=)
	$(BIN)/python -m tests.chaos.membership --changes $(CHANGES) --seed $(SEED)

overload: $(STAMP) ## spikes of clients against nodes with little memory; needs root (SECONDS=)
	$(BIN)/python -m tests.overload --seconds $(SECONDS)
	$(BIN)/python -m tests.overload --seconds $(SECONDS) --everywhere

conformance: $(STAMP) ## real Redis clients against three nodes
	$(BIN)/python -m pytest tests/conformance

differential: $(STAMP) ## the same random commands to redis-server and to nodes (SEED=, SEQUENCES=)
	$(BIN)/python -m tests.differential --sequences $(SEQUENCES) --seed $(SEED) --demand 1000 \
		--record tests/differential/RECORD.md

fuzz-wal: $(STAMP) ## spoilt bytes for everything that decodes the log (SEED=, INPUTS=)
	$(BIN)/python -m tests.torture.fuzz --inputs $(INPUTS) --seed $(SEED) \
		--record tests/torture/FUZZ.md

torture-broken: $(STAMP) ## plant each known mistake in the log: a test must notice
	$(BIN)/python -m tests.torture.broken

torture: $(STAMP) ## every byte cut, every bit flipped, power lost 100,000 times (SEED=)
	nice -n 10 $(BIN)/python -m tests.torture all --seed $(SEED) --record tests/torture/RECORD.md

torture-disk: $(STAMP) ## power losses on a real ext4, and disks that fail; needs root (SEED=, ROUNDS=)
	nice -n 10 $(BIN)/python -m pytest -s --timeout 3600 tests/process/test_real_disk*.py \
		--disk-rounds $(ROUNDS) --disk-seed $(SEED)

image: ## the container image (IMAGE=name:tag)
	$(DOCKER_BUILD) --file docker/Dockerfile --tag $(IMAGE) \
		--build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_CERT \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .

base-image: ## a Docker Engine and the image's base where there is no registry; needs root
	scripts/base-image.sh

docker-test: $(STAMP) ## build the real image and run it; needs a Docker Engine
	$(BIN)/python -m pytest -s tests/docker

roll: $(STAMP) ## rolling updates of three containers under load, then one to a broken image (SEED=, ROLLS=)
	$(BIN)/python -m tests.rolling --rolls $(ROLLS) --broken mute --seed $(SEED)

lock: ## make requirements-dev.txt and docker/requirements.txt anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--extra dev --no-emit-index-url --no-header --upgrade \
		--output-file requirements-dev.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--extra fast --no-emit-index-url --no-header --no-annotate --upgrade \
		--constraints requirements-dev.txt --output-file docker/requirements.txt pyproject.toml

clean: ## remove what was built, and the environment
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
