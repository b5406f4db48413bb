# Every target fetches what it needs (scripts/with-libtorch): a fresh machine needs only
# cargo, a C++ compiler, python3 with pip, and make. ARGS="..." is passed on to demo and bench.
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-distributed test test-golden test-simulated-cuda test-long lint check-features check-nccl doc msrv \
	package deny semver bench gpu-check clean

WITH := scripts/with-libtorch
# On CUDA where there is a card and a libtorch for it; OFB_TEST_DEVICE chooses another device.
TEST := $(WITH) scripts/on-test-device cargo test

# All features but the two that say where libtorch comes from: it is here already, and without
# it (doc-only) nothing links. One set for all targets, so that nothing is built twice. Each one is
# checked alone by check-features.
features := $(shell sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9_-]*\) *=.*/\1/p' Cargo.toml \
	| grep -vxE 'default|doc-only|download-libtorch')
FEATURES := --features "$(features)"

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9.%-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

setup: ## check the tools and install libtorch, once
	@$(WITH) sh -c 'echo "libtorch: $${LIBTORCH:-the PyTorch of python3}"'

build: setup ## compile the library
	$(WITH) cargo build $(FEATURES)

demo: setup ## search and shrink DeiT-S on the data set at hand (options: make demo ARGS="--help")
	$(WITH) cargo run --release --example deit_s --features pipeline -- $(ARGS)

DISTRIBUTED := --features "pipeline distributed"
demo-distributed: setup ## the demo in two processes of this machine, as torchrun would start them
	$(WITH) cargo build --release --example deit_s $(DISTRIBUTED)
	$(WITH) scripts/ranks.py 2 $${CARGO_TARGET_DIR:-target}/release/examples/deit_s \
		--out runs/distributed-$$(date +%s) $(ARGS)

# A small toolchain may come without the linters; the tests have to run all the same.
linters := $(WITH) sh -c 'cargo fmt --version && cargo clippy --version' >/dev/null 2>&1
get_linters := rustup component add rustfmt clippy

test: setup ## lint, then all tests: on the CPU, a simulated CUDA device, exports in Python, pages in a browser
	@if $(linters); then $(MAKE) --no-print-directory lint; \
		else echo "lint is SKIPPED, to have it: $(get_linters)" >&2; scripts/check-nccl; fi
	$(TEST) $(FEATURES)
	scripts/simulated-cuda-tests $(FEATURES)
	scripts/python-tests $(FEATURES)
	scripts/browser-tests $(FEATURES)

test-golden: setup ## only the comparison with the golden numbers
	$(TEST) $(FEATURES) --test golden

# Options of this target alone: OFB_SIMULATED_TESTS="golden search" (which test programs; none: "").
test-simulated-cuda: setup ## the tests on a simulated CUDA device, and counts of operators and host waits (docs/testing.md)
	scripts/simulated-cuda-tests $(FEATURES)

# Every property whose number of cases OFB_CASES sets has "flipped" or "mutated" in its name.
test-long: setup ## what takes long: processes killed a hundred times, 100,000 damaged files a reader, every ViT of timm
	OFB_KILLS=$${OFB_KILLS:-100} $(TEST) $(FEATURES) --test run --test distributed killed
	OFB_CASES=$${OFB_CASES:-100000} $(TEST) $(FEATURES) --tests -- flipped mutated bytes_changed
	scripts/family-table $(FEATURES)

test-tch-%: ## the same sources with another tch and its libtorch: make test-tch-0.24 (compiles everything)
	scripts/check-tch $*

# All of it in the dev profile, like the tests: libtorch's C++ glue is compiled once.
lint: setup check-features msrv doc ## formatting, clippy, each feature alone, documentation and its tables, warnings are errors
	@$(linters) || { echo "the linters are missing: $(get_linters)" >&2; exit 1; }
	$(WITH) cargo fmt --check
	$(WITH) cargo clippy --all-targets $(FEATURES) -- -D warnings
	scripts/quality-tables --check
	scripts/accuracy-svg | cmp - docs/accuracy.svg

check-features: setup ## compile the library without features, and with each one alone
	@for feature in "" $(filter-out distributed,$(features)); do \
		echo "cargo check --no-default-features --features \"$$feature\""; \
		$(WITH) cargo rustc --quiet --lib --profile check --no-default-features --features "$$feature" \
			-- -D warnings || exit 1; \
	done
	scripts/check-nccl

check-nccl: setup ## compile the feature distributed alone, with NCCL, without a CUDA card (0.2 GB of headers, once)
	scripts/check-nccl

# As docs.rs does: without libtorch. Links to other packages' documentation are not followed.
doc: setup ## build the documentation without libtorch, as docs.rs does
	RUSTDOCFLAGS="$$RUSTDOCFLAGS -D warnings" $(WITH) env -u LIBTORCH -u LIBTORCH_USE_PYTORCH \
		cargo doc --no-deps --no-default-features --features "doc-only $(features)"

msrv: setup ## check that no dependency needs a newer Rust than rust-version (clippy checks our own code)
	@$(WITH) scripts/msrv.py

PACKAGES := $${CARGO_TARGET_DIR:-target}/package
MOST_BYTES := 2000000

package: setup ## cargo publish --dry-run, and the package below 2 MB (uncommitted changes: ARGS=--allow-dirty)
	$(WITH) cargo publish --dry-run $(ARGS)
	@size=$$(wc -c < "$$(find $(PACKAGES) -name 'once-for-both-*.crate' | xargs ls -t | head -n 1)"); \
		echo "package: $$size bytes, at most $(MOST_BYTES)"; [ "$$size" -le $(MOST_BYTES) ]

# cargo's own tools are installed by whoever wants them: each takes minutes to compile.
needs = $(WITH) cargo $(1) --version >/dev/null 2>&1 \
	|| { echo "cargo-$(1) is missing: cargo install --locked cargo-$(1)" >&2; exit 1; }

deny: setup ## check licences, advisories and sources of all dependencies (needs cargo-deny)
	@$(call needs,deny)
	$(WITH) cargo deny check

semver: setup ## compare the public API with the published version (needs cargo-semver-checks)
	@$(call needs,semver-checks)
	$(WITH) cargo semver-checks --no-default-features --features "$(features)"

bench: setup ## measure
	$(WITH) cargo bench $(FEATURES) $(if $(ARGS),-- $(ARGS))

# Compiled before it starts, so that its time limits are for the measurements. Documentation tests use no device.
gpu-check: export OFB_CUDA ?= 1
gpu-check: setup ## on a machine with a CUDA card: tests and measurements, into target/gpu-check.md (ARGS="--out FILE")
	$(WITH) cargo test $(FEATURES) --no-run
	$(WITH) cargo bench $(FEATURES) --bench gates --bench loader --no-run
	$(WITH) cargo run --release $(FEATURES) --example gpu_check -- \
		--tests '$(TEST) $(FEATURES) --lib --tests --no-fail-fast' \
		--gates '$(WITH) cargo bench $(FEATURES) --bench gates -- 5' \
		--loader '$(WITH) cargo bench $(FEATURES) --bench loader -- waiting' $(ARGS)

clean: ## remove what was built (libtorch stays in its cache, see docs/setup.md)
	cargo clean
