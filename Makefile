# Each target works on a fresh machine with a Rust toolchain and a C compiler (SQLite and zlib are built in).
CARGO ?= cargo

.PHONY: run test check bench schema fmt portable check-windows check-macos

## Runs the sample fleet against the practice AccuLynx.
run:
	$(CARGO) run --quiet -- serve --sandbox

## Every test: in memory first, then the real binary.
test:
	$(CARGO) test --locked

## Format, lints, docs, the house's rules, the published schemas.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(CARGO) test --locked --quiet --test tidy
	$(CARGO) run --locked --quiet -- schema --check

## The table of speed and size, with this machine's own floors beside each figure.
bench:
	$(CARGO) bench --locked --bench fleet

## Writes schemas/ anew from the types.
schema:
	$(CARGO) run --quiet -- schema

fmt:
	$(CARGO) fmt

## Lints for the systems that this machine is not. Rust's targets come by rustup; a missing C compiler is installed (apt, pip).
portable: check-windows check-macos

WINDOWS = x86_64-pc-windows-gnu
MACOS = aarch64-apple-darwin
SUDO = $(if $(filter-out 0,$(shell id -u)),sudo)

check-windows:
	rustup target add $(WINDOWS)
	command -v x86_64-w64-mingw32-gcc && command -v nasm || $(SUDO) apt-get install --yes --no-install-recommends gcc-mingw-w64-x86-64 nasm
	$(CARGO) clippy --locked --target $(WINDOWS) --all-targets -- --deny warnings

check-macos:
	rustup target add $(MACOS)
	command -v cargo-zigbuild || python3 -m pip install cargo-zigbuild ziglang
	cargo-zigbuild clippy --locked --target $(MACOS) -- --deny warnings
