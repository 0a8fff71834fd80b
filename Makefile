# synhold: `make run` and `make test` are all a fresh Debian machine with Rust needs.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CARGO := cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SYNHOLD := $(TARGET)/release/synhold
# Flags for synhold, as in: make run ARGS="--dry-run"
ARGS :=
# Tests at a time that mostly wait, for time-outs and the kernel; those with a container engine are as many as processors.
WAITING := $(shell expr 2 \* $$(nproc))
PREFIX := /usr/local
DESTDIR :=
# Privileged tests, benchmark and demo run as root; what they are built from does not.
AS_ROOT := $(if $(SUDO),CARGO_TARGET_$(shell uname -m | tr a-z A-Z)_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO)")

.PHONY: run demo test test-unprivileged test-netns check bench install-rules remove-rules install uninstall deb setup setup-tests build

run: build
	$(SUDO) $(SYNHOLD) run $(if $(findstring --state-dir,$(ARGS)),,--state-dir data) $(ARGS)

demo: build
	$(AS_ROOT) $(CARGO) run --locked --quiet --release --example demo -- $(SYNHOLD)

test: test-unprivileged test-netns

test-unprivileged: setup-tests
	$(CARGO) test --locked --lib --bins --test it

test-netns: setup-tests
	scripts/setup.sh package
	$(CARGO) build --locked --bin synhold --example demo
	scripts/package.sh debug $(TARGET)/debug/synhold-test.deb
	$(AS_ROOT) $(CARGO) test --locked --lib -- --ignored
	$(AS_ROOT) $(CARGO) test --locked --test netns -- --skip docker_ --test-threads=$(WAITING)
	$(AS_ROOT) $(CARGO) test --locked --test netns docker_

check: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	scripts/setup.sh check
	$(TARGET)/tools/bin/cargo-deny --config .deny.toml check licenses bans sources

bench: build
	$(AS_ROOT) $(CARGO) bench --locked --bench bench -- $(SYNHOLD)

install-rules: build
	$(SUDO) $(SYNHOLD) rules install $(ARGS)

remove-rules: build
	$(SUDO) $(SYNHOLD) rules remove

install: build
	$(SUDO) scripts/place.sh install $(SYNHOLD) "$(DESTDIR)" $(PREFIX)

uninstall: build
	$(SUDO) scripts/place.sh uninstall $(SYNHOLD) "$(DESTDIR)" $(PREFIX)

deb: build
	scripts/setup.sh package
	scripts/package.sh release $(TARGET)/debian/

setup:
	scripts/setup.sh

setup-tests:
	scripts/setup.sh tests

build: setup
	$(CARGO) build --locked --release
