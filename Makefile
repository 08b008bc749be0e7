# make run       set up .venv and run the main job, scenarios/voters.yaml
# make test      set up .venv and check style, types and behaviour
# make golden    compare all golden numbers: what every environment, client, recipe, scenario computes
# make format    put the code in the house's format
# make clean     delete .venv and what tools left behind (not runs/)
#
# Set-up happens once; later calls see that nothing changed. pip's own variables are obeyed, so
# that Linux users without a GPU can avoid CUDA by adding PyTorch's CPU index:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make run

PYTHON ?= python3
VENV ?= .venv
SCENARIO ?= scenarios/voters.yaml
WORKERS ?= 2
TESTS ?= tests
export PYTHON VENV

BIN = "$(VENV)/bin"
# A test's tensors are small: threads would only wait for each other, and for the other workers.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMEXPR_NUM_THREADS=1

.PHONY: help run test golden format clean
.NOTPARALLEL:

help:
	@sed -n '/^# make/s/^# //p' Makefile

run:
	@sh scripts/setup.sh data,sensitivity
	@$(BIN)/mores run $(SCENARIO)

# All three checks run whatever the others say, the tests last.
test:
	@sh scripts/setup.sh data,sensitivity,rl,hf,test,dev
	@failed=0; \
	$(BIN)/ruff check --quiet . || failed=1; \
	$(BIN)/ruff format --check --quiet . || failed=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python || failed=1; \
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS) || failed=1; \
	exit $$failed

golden:
	@sh scripts/setup.sh data,sensitivity,rl,hf,test,dev
	@$(ONE_THREAD) $(BIN)/python -m tests.golden.numbers

format:
	@sh scripts/setup.sh data,sensitivity,rl,hf,test,dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	if [ -f $(BIN)/../mores-made ]; then rm -rf "$(VENV)"; fi
	rm -rf build .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
