# What people, pre-commit and .ci/run call alike.
PYTHON := .venv/bin/python
BIN := .venv/bin

.PHONY: install run test lint format types imports dependencies spelling dead shell compose check bench footprint openapi

install:            ## .venv with the tools for tests and checks
	./setup.sh install dev

run:                ## the whole product on this machine
	./setup.sh

test:               ## the whole test suite
	./setup.sh test

lint:               ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:             ## ruff: write the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types:              ## mypy, strict
	$(BIN)/mypy

imports:            ## import-linter: who may import whom
	$(BIN)/lint-imports

dependencies:       ## deptry: imported is required, required is imported
	$(BIN)/deptry .

spelling:           ## codespell
	$(BIN)/codespell

dead:               ## vulture: code that nobody calls (to be judged by a person)
	$(BIN)/vulture app config.py --min-confidence 80

shell:              ## shellcheck
	$(BIN)/shellcheck setup.sh .ci/run

compose:            ## docker-compose.yml, where there is a docker that can read it
	@if docker compose version >/dev/null 2>&1; then \
	  SECRET_KEY=x JWT_SECRET_KEY=x POSTGRES_PASSWORD=x docker compose config --quiet; \
	else echo "no docker compose here: docker-compose.yml not checked"; fi

check: lint types imports dependencies spelling shell compose

bench:              ## the speed claims of the README, as ratios
	$(PYTHON) benchmarks/ingest.py
	$(PYTHON) benchmarks/analytics.py
	$(PYTHON) benchmarks/outbox.py
	$(PYTHON) benchmarks/encryption.py
	$(PYTHON) benchmarks/footprint.py

openapi:            ## docs/openapi.json from the declared endpoints
	$(PYTHON) scripts/openapi.py

footprint:          ## memory of the idle product, time of the second start
	$(PYTHON) benchmarks/footprint.py
