# Everything a fresh clone needs: python3 and make. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
UV := $(shell command -v uv || echo .tools/bin/uv)
PY := .venv/bin/python
INSTALLED := .venv/.installed
DATABASE_TESTS := tests/controlplane tests/executions
export DJANGO_SETTINGS_MODULE := controlplane.settings
# A hundred processes import this code while the tests run: compiled once, even where the environment would not have it so
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo test lint style types unit test-postgres chaos links fuzz bench scale screenshots audit docs api-examples fuzz-api translations lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(INSTALLED) ## Install everything from the lock file into .venv

# --compile-bytecode: SecretFlow imports in 2 s with it, in 7 s without
$(INSTALLED): pyproject.toml client/pyproject.toml uv.lock .python-version | $(UV)
	@echo "installing Python 3.10, SecretFlow and the rest into .venv: a minute or so, and 2 GB of disk"
	$(UV) sync --quiet --locked --extra party --compile-bytecode
	@touch $@

.tools/bin/uv:
	@echo "installing uv into .tools"
	python3 -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

demo: $(INSTALLED) ## Run the main job with two parties on this machine; ARGS=--once to end by itself
	@$(PY) -m executions.trial.demo $(ARGS)

test: lint unit test-postgres ## Linters, types, import rules and all tests, on SQLite and on PostgreSQL

lint: $(INSTALLED) ## Linters, types, import rules, dead code
	@$(MAKE) --no-print-directory --jobs=2 --output-sync style types

style: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	.venv/bin/lint-imports
	! .venv/bin/vulture | grep -E "unused (function|class|method|property|import)|unused variable '_?[A-Z][A-Z_]+'"
	.venv/bin/hadolint deploy/*.Dockerfile
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check

types: $(INSTALLED)
	$(PY) -m mypy

# Four at a time, a file each, the longest first (tests/conftest.py): on two cores, as they often wait. Every process
# has servers of its own
PYTEST := $(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Pages, forms and answers that ask the database for nothing of its own: on PostgreSQL alone, as in production. On SQLite
# every page and address is walked all the same (test_every_address, test_chinese_pages, tests/site), and all that locks,
# counts or goes through much
ON_POSTGRESQL_ALONE := --ignore=tests/client $(addprefix --ignore=tests/controlplane/test_, access.py account.py \
	admin.py api_configuration.py api_description.py api_habits.py canvas.py invitations.py languages.py people.py \
	profile_problems.py profile_yaml.py profiles.py request_ids.py schema_fuzz.py second_factor.py sign_in.py \
	task_types.py throttling.py tokens.py usage.py webhook.py) \
	$(addprefix --ignore=tests/executions/test_, admin_executions.py api.py api_results.py approvals.py chinese.py \
	diagnosis.py dry_run.py health.py mandate.py metrics.py notifications.py overview.py party_page.py \
	pipelines_admin.py pipelines_api.py preflight.py results_shown.py signed_reports.py timeline.py validity.py \
	who_may_only_run.py)
unit: $(INSTALLED) ## The tests on SQLite; ARGS="tests/executions" for some
	$(PYTEST) $(if $(findstring tests/,$(ARGS)),,$(ON_POSTGRESQL_ALONE)) $(ARGS)

# What touches the database, once more on a real PostgreSQL; and how much of the control plane that covers. Not what asks
# the same of both databases, and not what starts processes with a database of their own
SAME_ON_BOTH := $(addprefix --ignore=tests/controlplane/test_, every_address.py profile_command.py production.py \
	chinese_pages.py translations.py)
test-postgres: $(INSTALLED) ## What touches the database, on PostgreSQL
	TEST_DATABASE=postgresql $(PYTEST) -n 3 $(DATABASE_TESTS) tests/client $(SAME_ON_BOTH) \
		--cov --cov-report=term:skip-covered $(ARGS)

chaos: $(INSTALLED) ## Break things at random under 300 executions; CHAOS_SEED= to repeat, TEST_DATABASE=postgresql
	CHAOS_SEED=$${CHAOS_SEED:-0} CHAOS_EXECUTIONS=$${CHAOS_EXECUTIONS:-300} $(PY) -m pytest tests/site/test_chaos.py -s $(ARGS)

links: $(INSTALLED) ## Make the links of three and of five parties over and over: LINK_ROUNDS= (2000, and a quarter with five)
	LINK_ROUNDS=$${LINK_ROUNDS:-2000} $(PY) -m pytest tests/workers/network/test_links_over_and_over.py -s $(ARGS)

fuzz: $(INSTALLED) ## Compare random tables with a computation in the clear; FUZZ_CASES= (2000) and FUZZ_SEED= to say which
	$(PY) -m tests.differential $(ARGS)

bench: $(INSTALLED) ## Benchmarks; each prints a ratio against its baseline, measured in the same run; ARGS=quick
	$(PY) -m tests.benchmarks $(ARGS)

scale: $(INSTALLED) ## How long everything takes with a million executions; ARGS="100000 --why", TEST_DATABASE=sqlite
	TEST_DATABASE=$${TEST_DATABASE:-postgresql} $(PY) -m tests.benchmarks.scale $(ARGS)

screenshots: $(INSTALLED) ## Make the pictures of README and docs anew, of a trial that runs the main job; needs Chromium
	$(PY) -m tests.screenshots

audit: $(INSTALLED) | $(UV) ## Licences and known vulnerabilities of all packages; says of which the registry tells nothing
	$(UV) tool run --quiet pip-licenses@5.5.5 --python $(PY) --order=license
	$(UV) export --quiet --locked --extra party --no-emit-local --no-hashes --output-file .venv/.packages
	$(UV) tool run --quiet pip-audit@2.10.1 --disable-pip --no-deps --progress-spinner off --requirement .venv/.packages

docs: $(INSTALLED) ## Make docs/task-types.md and docs/openapi.yaml anew from the code
	$(PY) manage.py task_types --markdown > docs/.task-types && mv docs/.task-types docs/task-types.md
	$(PY) manage.py spectacular --validate --fail-on-warn --file docs/.openapi && mv docs/.openapi docs/openapi.yaml

api-examples: $(INSTALLED) docs ## Record anew what a site answers to the examples of the API's description
	RECORD=1 $(PY) -m pytest tests/controlplane/test_api_description.py -k accepted
	@$(MAKE) --no-print-directory docs

fuzz-api: $(INSTALLED) ## Send what the API's description allows to a site, and what it does not; FUZZ_SECONDS= (600)
	$(PY) -m tests.fuzzed_api $(ARGS)

translations: $(INSTALLED) ## Bring the Chinese catalogues up to date with the texts of the code, and compile them
	$(PY) -m tests.translations

lock: | $(UV) ## Resolve the dependencies anew
	$(UV) lock

clean: ## Remove what was installed and made
	rm -rf .venv .tools var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
