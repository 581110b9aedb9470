# Each target works on a fresh machine with a Rust toolchain and a C compiler (SQLite and zlib are built in).
CARGO ?= cargo

.PHONY: run test check bench schema fmt

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
