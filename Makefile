# Every target fetches what it needs (scripts/with-libtorch): a fresh machine needs only
# cargo, a C++ compiler, python3 with pip, and make. ARGS="..." is passed on to demo and bench.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-golden test-long lint bench clean

WITH := scripts/with-libtorch

# All features but the two that say where libtorch comes from: it is here already, and without
# it (doc-only) nothing links. One set for all targets, so that nothing is built twice.
features := $(shell sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9_-]*\) *=.*/\1/p' Cargo.toml \
	| grep -vxE 'default|doc-only|download-libtorch')
FEATURES := --features "$(features)"

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## check the tools and install libtorch, once
	@$(WITH) sh -c 'echo "libtorch: $${LIBTORCH:-the PyTorch of python3}"'

build: setup ## compile the library
	$(WITH) cargo build $(FEATURES)

demo: setup ## search and shrink DeiT-S on the data set at hand (options: make demo ARGS="--help")
	$(WITH) cargo run --release --example deit_s -- $(ARGS)

# A small toolchain may come without the linters; the tests have to run all the same.
linters := $(WITH) sh -c 'cargo fmt --version && cargo clippy --version' >/dev/null 2>&1
get_linters := rustup component add rustfmt clippy

test: setup ## lint, then all tests: unit, golden, property, documentation, exports in Python, pages in a browser
	@if $(linters); then $(MAKE) --no-print-directory lint; else echo "lint is SKIPPED, to have it: $(get_linters)" >&2; fi
	$(WITH) cargo test $(FEATURES)
	scripts/python-tests $(FEATURES)
	scripts/browser-tests $(FEATURES)

test-golden: setup ## only the comparison with the golden numbers
	$(WITH) cargo test $(FEATURES) --test golden

test-long: setup ## what takes long: a run that is killed a hundred times
	OFB_KILLS=$${OFB_KILLS:-100} $(WITH) cargo test $(FEATURES) --test run killed

# All of it in the dev profile, like the tests: libtorch's C++ glue is compiled once.
lint: setup ## formatting, clippy and documentation, warnings are errors
	@$(linters) || { echo "the linters are missing: $(get_linters)" >&2; exit 1; }
	$(WITH) cargo fmt --check
	$(WITH) cargo clippy --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="$$RUSTDOCFLAGS -D warnings" $(WITH) cargo doc --no-deps $(FEATURES)

bench: setup ## measure
	$(WITH) cargo bench $(FEATURES) $(if $(ARGS),-- $(ARGS))

clean: ## remove what was built (libtorch stays in its cache, see docs/setup.md)
	cargo clean
