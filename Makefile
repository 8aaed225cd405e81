# kube-lite. `make` lists what there is; `make dev` and `make test` do all their set-up themselves.

CARGO ?= cargo
export CARGO
export PATH := $(PATH):$(HOME)/.cargo/bin

# Cargo has its own parallelism; make's would only disturb it, and these steps are in order.
.NOTPARALLEL:
RUN := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL
OUT := $(or $(CARGO_TARGET_DIR),target)

# How many hosts make hosts makes.
HOSTS ?= 4

# More options for `kube-lite dev`, e.g. make dev ARGS="--nodes 5"
ARGS ?=

# How many seeds of the simulator, from which on and on how many threads: make soak SEEDS=100000 FROM=5001 JOBS=4
SEEDS ?= 10000
FROM ?= 1
JOBS ?=
# Which benchmarks: make bench ROWS=docker,core
ROWS ?=
# For how long make fuzz tries each parser of outside bytes, and which: make fuzz SECONDS=600 TARGET=spec
SECONDS ?= 60
TARGET ?=
# The seed that make replay tells of, and for how long make mutants goes on.
SEED ?=
MINUTES ?= 45
SIM := --locked --profile sim -p kube-lite-sim

.DEFAULT_GOAL := help
.PHONY: help dev hosts test soak fuzz replay mutants build static deb ui image fmt lint screenshots bench benchui clean docker test-tools cargo clippy \
	rustfmt fmtcheck

help: ## this list
	@sed -nE 's/^([a-z]+):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | while IFS='	' read -r name what; do \
		printf '  make %-8s %s\n' "$$name" "$$what"; done

dev: docker build image ## three nodes and a sample app on this machine's Docker; Ctrl-C stops it all
	@echo '==> starting kube-lite dev'
	@exec target/release/kube-lite dev --deploy examples/hello.json $(ARGS)

test: docker test-tools ui image fmtcheck lint ## every test there is, formatting and lints included
	@echo '==> running the tests'
	@status=0; \
	$(RUN) $(CARGO) test --locked --workspace --exclude kube-lite-sim --no-fail-fast || status=$$?; \
	echo '==> running the simulator'; \
	$(RUN) $(CARGO) test $(SIM) --no-fail-fast || status=$$?; \
	$(RUN) scripts/fuzz 4 || status=$$?; \
	echo '==> running the browser tests'; \
	KUBE_LITE_BIN='$(abspath $(OUT))/debug/kube-lite' $(RUN) scripts/ui test || status=$$?; \
	exit $$status

hosts: docker test-tools build image ## several hosts, each with its own network and Docker: make hosts [HOSTS=4]
	@$(RUN) $(CARGO) build --quiet --locked -p kube-lite-testkit --bin hosts
	@exec '$(OUT)/debug/hosts' target/release/kube-lite $(HOSTS)

soak: cargo ## many more seeds of the simulator: make soak SEEDS=100000 [JOBS=] [FROM=]
	@$(RUN) $(CARGO) run --quiet $(SIM) -- --seeds $(SEEDS) --from $(FROM) $(if $(JOBS),--jobs $(JOBS))

fuzz: cargo ## random input for every parser of outside bytes: make fuzz [SECONDS=60] [TARGET=spec]
	@$(RUN) scripts/fuzz '$(SECONDS)' $(TARGET)

replay: cargo ## what happens in one seed, line by line: make replay SEED=123
	@[ -n '$(SEED)' ] || { echo 'error: which seed? make replay SEED=123' >&2; exit 2; }
	@$(RUN) $(CARGO) run --quiet $(SIM) -- --seed $(SEED) --trace

mutants: cargo ## change the decisions one by one, and see whether a test notices: make mutants [MINUTES=45]
	@MINUTES='$(MINUTES)' $(RUN) scripts/mutants

ui: ## the dashboard, which is compiled into the binary
	@$(RUN) scripts/ui build

build: cargo ui ## the release binary, target/release/kube-lite
	@echo '==> building kube-lite (release)'
	@$(RUN) $(CARGO) build --release --locked --bin kube-lite
	@[ target/release -ef '$(OUT)/release' ] || \
		{ mkdir -p target/release && cp -f '$(OUT)/release/kube-lite' target/release/; }

static: cargo ui ## the same, needing no library of the system's: target/static
	@echo '==> building kube-lite (static)'
	@$(RUN) scripts/static

deb: build ## a Debian package of it, in target/debian
	@echo '==> packing'
	@$(RUN) scripts/deb target/release/kube-lite target/debian

image: cargo docker ## the sample image, kube-lite/hello:v1 and :v2
	@$(RUN) scripts/sample-image

fmt: rustfmt ## format the code
	@$(RUN) $(CARGO) fmt --all
	@$(RUN) scripts/ui format

lint: clippy ## clippy, with warnings as errors
	@echo '==> linting'
	@$(RUN) $(CARGO) clippy --quiet --locked --workspace --exclude kube-lite-sim --all-targets -- -D warnings
	@$(RUN) $(CARGO) clippy --quiet --locked -p kube-lite-sim --all-targets -- -D warnings
	@$(RUN) scripts/ui check

screenshots: docker test-tools build image ## the pictures in the README, made anew by the browser tests
	@SHOTS='$(CURDIR)/docs/images' KUBE_LITE_BIN='$(CURDIR)/target/release/kube-lite' $(RUN) scripts/ui test

bench: docker test-tools build image ## how fast and how small, beside Docker and Swarm: make bench [ROWS=core,api]
	@$(RUN) $(CARGO) run --quiet --release --locked -p kube-lite-bench --bin bench -- $(if $(ROWS),--only $(ROWS)) $(ARGS)

benchui: test-tools ui ## how the page bears 200 nodes and 5,000 instances, as JSON
	@$(RUN) scripts/ui bench

clean: ## remove what was built
	@$(RUN) $(CARGO) clean
	@rm -rf ui/dist/assets ui/dist/index.html* ui/node_modules ui/node/node_modules

fmtcheck: rustfmt
	@echo '==> checking the format'
	@$(RUN) $(CARGO) fmt --all --check || { echo 'error: not formatted; run: make fmt' >&2; exit 1; }

docker:
	@$(RUN) scripts/docker-up

test-tools:
	@$(RUN) scripts/test-tools

cargo:
	@command -v $(CARGO) >/dev/null || { echo 'error: there is no cargo; install Rust, then try again' >&2; exit 1; }

rustfmt clippy: cargo
	@$(CARGO) $(@:rustfmt=fmt) --version >/dev/null 2>&1 || { echo 'error: cargo $(@:rustfmt=fmt) is missing;' \
		'run: rustup component add $@' >&2; exit 1; }
