# Commands for developers. `make help` lists them; scripts/ does the work.

# The PostgreSQL to test with: 15, 18, or the URL of a server with a superuser.
PG ?= 15

# The systems are modules of a macro, behind which cargo fmt does not look.
HIDDEN = --edition 2024 crates/compat/src/*/mod.rs

.PHONY: help test test-all fmt lint doc deny

help: ## List the commands.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

test: ## Run every test; installs missing tools. PG=18 or PG=postgres://… chooses the server.
	scripts/test "$(PG)"

test-all: ## Run every test on PostgreSQL 15 and 18, and PostgreSQL's tests again with 8 slots.
	unset POSTRIDER_TEST_POSTGRES; scripts/test 15
	unset POSTRIDER_TEST_POSTGRES; scripts/test 18
	unset POSTRIDER_TEST_POSTGRES; POSTRIDER_TEST_SLOTS=8 scripts/test 15 \
		-p postrider-store -p postrider-tests --test it -- postgres --skip incident

fmt: ## Format the code.
	cargo fmt
	rustfmt $(HIDDEN)

lint: ## Check format and lints; warnings are errors.
	cargo fmt --check
	rustfmt --check $(HIDDEN)
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --features postrider/otel --all-targets -- -D warnings

doc: ## Build the documentation; warnings are errors.
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

deny: ## Check licences, advisories and banned crates; needs cargo-deny and the network.
	cargo deny check
