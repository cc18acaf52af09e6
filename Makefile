# make run      build what is needed and start a homeserver on http://127.0.0.1:8008
# make test     everything that must hold before a change is published
# make build    the binary for production, target/release/hearth
# make bench    how fast it is, beside Synapse and a server that does nothing; writes docs/performance.md
# make prepare  write what the queries look like to .sqlx, after a change of SQL

# Queries are checked against .sqlx, so that building needs no database.
export SQLX_OFFLINE := true

.PHONY: run build test bench prepare

run:
	scripts/setup
	cargo run --locked -- serve

build:
	scripts/setup
	cargo build --locked --release

test:
	scripts/setup tests
	scripts/clients
	scripts/synapse
	cargo fmt --all --check
	scripts/sqlx check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cd complement && python3 -m unittest -q recorder.tests
	scripts/with-postgres cargo test --locked --workspace

bench:
	scripts/setup tests
	cargo build --locked --release -p hearth -p hearth-bench
	scripts/with-postgres --durable scripts/bench

prepare:
	scripts/setup
	scripts/sqlx prepare
