# The verbs. `make demo` and `make test` set everything up by themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
SOURCES := ouzel handlers client protos tests benchmarks scripts examples

MODEL ?= efficientnet-lite0
MINUTES ?= 120
SECONDS_EACH ?= 30
unexport PYTHONDONTWRITEBYTECODE # services and jobs are processes: each would compile everything anew

.PHONY: help setup demo up trust test stories cluster soak soak-cluster soak-gateway reliability endpoints conformance fuzz lint format protos sync bench rendered lecture gpu containers lock clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP) ## create .venv and install everything (uv is used if it is there)

$(STAMP): pyproject.toml client/pyproject.toml protos/pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON=$(PYTHON) scripts/setup.sh
	@touch $(STAMP)

demo: $(STAMP) ## explain a photograph with a real network; writes demo/
	@$(BIN)/python examples/demo.py

up: $(STAMP) ## serve the models of model_store/ until Ctrl-C
	@$(BIN)/ouzel up

trust: $(STAMP) ## measure how far the maps of MODEL=NAME can be trusted
	@$(BIN)/ouzel models trust $(MODEL) --html trust-$(MODEL).html

test: $(STAMP) ## run the whole test suite
	@# One thread per process: two processes keep two cores busy. Files are handed out in the order of
	@# tests/conftest.py, not those with the most tests first, which would leave the longest tests for the end.
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

stories: $(STAMP) ## run the long tests of the whole way, of which `make test` has short versions
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m story

cluster: $(STAMP) ## kill parts of a real Ray cluster under jobs, and serving machines; nothing is lost or done twice
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m cluster

lint: $(STAMP) ## ruff, mypy, import contracts, generated files
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; exit 1; }
	@$(BIN)/python scripts/unasync.py --check
	@bash -n scripts/*.sh .ci/run
	@scripts/check_compose.sh

format: $(STAMP) ## let ruff lay out the code
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q .

protos: $(STAMP) ## generate the protobuf stubs
	@scripts/protos.sh

sync: $(STAMP) ## generate the synchronous client from the asynchronous one
	@$(BIN)/python scripts/unasync.py

soak: $(STAMP) ## kill workers and jobs at random, 260 times for each store (20 minutes)
	@$(BIN)/python tests/support/chaos.py

soak-cluster: $(STAMP) ## the same over a Ray cluster, PostgreSQL and a bucket, 300 kills (half an hour)
	@$(BIN)/python tests/support/chaos_cluster.py

soak-gateway: $(STAMP) ## two hours of mixed load through the front door; MINUTES=120
	@$(BIN)/python tests/support/soak/mixed_load.py --minutes $(MINUTES)

reliability: $(STAMP) ## send bad input and faults to the real services through the front door; prints a table
	@$(BIN)/python tests/support/reliability/table.py

endpoints: $(STAMP) ## ask a real MLServer and a real KServe server as audited endpoints (they get own environments)
	@$(BIN)/python tests/support/oip_check.py

conformance: $(STAMP) ## ask the gateway with unmodified clients, Triton's and KServe's (they get an own environment)
	@$(BIN)/python tests/support/conformance/check.py

fuzz: $(STAMP) ## give atheris what reads bytes of strangers, schemathesis the REST port (they get own environments)
	@$(BIN)/python tests/support/fuzz/run.py --seconds $(SECONDS_EACH) --folder build/fuzz
	@$(BIN)/python tests/support/conformance/check.py --fuzz 200

bench: $(STAMP) ## measure against captum, pytorch-grad-cam, lucent, fastai and quantus, the job service and the ledger
	@$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt -e '.[bench]'
	@# quantus brings a cv2 that needs libGL.so.1 (Debian: libgl1); this one, which grad-cam brings, does not.
	@$(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt --force-reinstall --no-deps \
	  opencv-python-headless
	@$(BIN)/python benchmarks/explain.py
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/saliency.py
	@$(BIN)/python benchmarks/maximize.py
	@$(BIN)/python benchmarks/jobs.py
	@$(BIN)/python benchmarks/finetune.py
	@$(BIN)/python benchmarks/audit.py
	@$(BIN)/python benchmarks/ledger.py
	@$(BIN)/python benchmarks/sink.py
	@$(BIN)/python benchmarks/gateway.py
	@$(BIN)/python benchmarks/pool.py

rendered: $(STAMP) ## pretrain on rendered scenes, then learn from few photographs; writes build/rendered (an hour on two free cores)
	@$(BIN)/python examples/rendered/experiment.py --folder build/rendered
	@$(BIN)/python examples/rendered/experiment.py --folder build/rendered --chart build/rendered/curve.png

lecture: $(STAMP) ## draw the figures of docs/lecture.md again (eight minutes of one core)
	@OMP_NUM_THREADS=2 $(BIN)/python examples/lecture/everything.py

containers: $(STAMP) ## build both images and run docker-compose.yml with podman (root, 30 GB); BASE=IMAGE MOUNTS="PATH ..."
	@$(BIN)/python tests/support/containers/check.py $(if $(BASE),--base $(BASE)) $(if $(MOUNTS),--mount $(MOUNTS)) $(if $(KEEP),--keep)

gpu: $(STAMP) ## measure what matters on this machine's GPU in six minutes: exactness, speed, training, serving, jobs
	@$(BIN)/python benchmarks/gpu.py

lock: $(STAMP) ## write the versions in .venv to constraints.txt
	@scripts/lock.sh

clean: ## remove the environment and what the demo wrote
	@rm -rf .venv demo
