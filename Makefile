# Coactus Dispatch. `make run` and `make test` need nothing set up by hand: they install what is missing into this folder
# (.venv, .local), and redis-server as a Debian package where we are root.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MANIFEST ?= examples/seoul.yaml
TRAFFIC ?= drivers=300,rate=2
DURATION ?= 60s
OPERATOR := target/debug/dispatch-operator

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: run
run: tools-local build ## Provision Seoul here, dispatch simulated traffic for 60 s, print the summary
	$(OPERATOR) local -f $(MANIFEST) --simulate $(TRAFFIC) --for $(DURATION) --summary .local/summary.json

.PHONY: up
up: tools-local build ## The same, and stay until Ctrl-C
	$(OPERATOR) local -f $(MANIFEST) --simulate $(TRAFFIC)

.PHONY: test
test: tools-test build ## Every test this machine can run
	scripts/test.sh

.PHONY: campaign
campaign: tools-test ## Faults at length, about CAMPAIGN_MINUTES (20): a table of them and their outcome at the end
	scripts/campaign.sh

.PHONY: campaign-operator
campaign-operator: tools-test ## Kill the operator at every call, also where a call only reads; needs KUBEBUILDER_ASSETS
	DISPATCH_CAMPAIGN=full cargo nextest run --locked -p dispatch-tests --all-features --no-capture -E 'test(killed_at_any_call)'

.PHONY: bench
bench: tools-local ## Measure everything against the seed's own algorithm, under 20 minutes; writes BENCHMARKS.md and docs/bench
	cargo build --locked --profile bench -p dispatch-bench -p dispatch-runtime -p dispatch-simulator -p dispatch-operator
	target/release/dispatch-bench

.PHONY: bench-quick
bench-quick: tools-local ## The same in small, for correctness only: no figures are written
	cargo build --locked -p dispatch-bench -p dispatch-runtime -p dispatch-simulator -p dispatch-operator
	target/debug/dispatch-bench --quick

.PHONY: lint
lint: tools-lint ## Formatting, clippy, docs, licences
	scripts/lint.sh

.PHONY: generate
generate: tools-test ## Rewrite the generated files: CRD, OpenAPI document, IAM policies
	UPDATE_GENERATED=1 cargo test -q -p dispatch-api -p dispatch-runtime --lib generated
	UPDATE_GENERATED=1 cargo test -q -p dispatch-tests --test manifests the_policies_are

.PHONY: build
build:
	cargo build --locked -p dispatch-operator -p dispatch-runtime -p dispatch-simulator

.PHONY: tools-local
tools-local:
	@scripts/tools.sh local

.PHONY: tools-test
tools-test:
	@scripts/tools.sh test

.PHONY: tools-lint
tools-lint:
	@scripts/tools.sh lint
