# make report    run the study and print the path of its report (PROFILE=smoke, quick, thesis or paper)
# make test      lint, types, tests
# make lab       the notebooks in JupyterLab
# make lock      settle the versions of pyproject.toml anew in requirements.lock
# make clean     remove the environment and caches; data and reports stay

PROFILE = quick
UV = 0.13.9
PYTHON = .venv/bin/python

# Set, it would make every process compile torch and sympy anew, ten seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: report test lab lock clean env

report: env
	$(PYTHON) -m flowlib run --profile $(PROFILE)

test: env
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) -m pytest -n 2 --dist loadfile  # a process a core, a file to a process

lab: env
	$(PYTHON) -m jupyterlab

lock: .venv/bin/uv
	$(PYTHON) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra test --extra dask pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build flowlib.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find flowlib tests -name __pycache__ -prune -exec rm -rf {} +

env: .venv/ready

# uv keeps itself and pip when it syncs an environment that venv made.
.venv/ready: .venv/bin/uv requirements.lock pyproject.toml
	$(PYTHON) -m uv pip sync --python $(PYTHON) --require-hashes requirements.lock
	$(PYTHON) -m uv pip install --python $(PYTHON) --no-deps --no-build-isolation -e .
	touch $@

# An environment that cannot run this uv was half made, made by an older Makefile, or lost its Python: it is made anew.
ifeq ($(findstring uv $(UV),$(shell $(PYTHON) -m uv --version 2>/dev/null)),)
.PHONY: .venv/bin/uv
endif
.venv/bin/uv:
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making .venv with $$python"; \
			$$python -m venv --clear .venv && $(PYTHON) -m pip install --quiet uv==$(UV); exit $$?; \
		fi; \
	done; \
	echo "no Python >= 3.11 with ensurepip (python3, python3.13, 3.12, 3.11): install one (Debian: python3-venv)" >&2; \
	exit 1
