# What a newcomer needs: `make demo`, `make test`.  Nothing but Python 3.11+ and make is assumed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests wait half of their time, for deadlines and for real servers: three for two cores.
JOBS ?= 3

.PHONY: demo test unit check format bench guard clean

$(BIN)/bokeh-gateway: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml $(BIN)/bokeh-gateway
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	@touch $@

demo: $(BIN)/bokeh-gateway  ## three Bokeh workers behind the gateway; prints the URL
	@$(BIN)/bokeh-gateway demo

test: $(VENV)/.test  ## everything
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

unit: $(VENV)/.test  ## what needs no process and no browser
	$(BIN)/python -m pytest tests/unit $(ARGS)

check: $(VENV)/.test  ## style, types, layers and unit tests, in under a minute
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n $(JOBS) tests/unit

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## a short form of every benchmark, against the peers that are installed
	$(BIN)/python -m bench.all --short

guard: $(VENV)/.test  ## system calls per request and message, against the kept record
	$(BIN)/python -m bench.guard

clean:
	rm -rf $(VENV) build *.egg-info
