# What a newcomer runs: `make quickstart`, then `make test`. See README.md.
.PHONY: setup lint test test-fast fuzz quickstart starter clean

BIN := .venv/bin
ENVIRONMENT := .venv/.up-to-date
S3RVER := .venv/s3rver
# one thread per library call is fastest for the small tensors of the tests
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

setup: $(ENVIRONMENT)  ## make .venv with pinned versions; nothing to do when it is up to date

$(ENVIRONMENT): pyproject.toml constraints.txt deploy/environment.sh
	@deploy/environment.sh
	@touch $@

lint: setup  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p clnet
	$(BIN)/lint-imports

test: setup $(S3RVER)  ## all tests
	$(TEST)

# a second S3 server for the tests, by other hands than moto; they do without where npm is missing
$(S3RVER):
	@mkdir -p $@
	@npm install --silent --no-audit --no-fund --prefix $@ s3rver@3.7.1 \
		|| echo "npm is missing or failed: tests of a second S3 server are skipped"

test-fast: setup  ## the tests that start neither Ray nor real training
	$(TEST) -m "not slow"

fuzz: setup  ## thousands of broken inputs, and contributions killed at random moments (minutes)
	$(TEST) tests/fuzz --broken-inputs 2000 --kills 50 --timeout 3600

quickstart: setup  ## the whole path on made-up patients, with a picture at the end
	$(BIN)/clnet quickstart

starter: setup  ## train again the starter release that ships with the package (hours)
	$(BIN)/python -m clnet.starter

clean:  ## remove the environment and caches; workspaces stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
