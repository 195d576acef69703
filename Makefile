# `make run` and `make test` need no manual setup. They install what is missing: Python packages and programs into this
# folder (.venv, .local), tools that are built from source into the user's cache folder, and Debian packages when run as
# root.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MANIFEST ?= examples/seoul.yaml
TRAFFIC ?= drivers=300,rate=2
DURATION ?= 60s
LOCAL := target/debug/dispatch-local

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: run
run: tools-local build ## Provision Seoul on this machine, dispatch simulated traffic for 60 s, print the summary
	$(LOCAL) run -f $(MANIFEST) --simulate $(TRAFFIC) --for $(DURATION) --summary .local/summary.json

.PHONY: up
up: tools-local build ## Like run, until Ctrl-C
	$(LOCAL) run -f $(MANIFEST) --simulate $(TRAFFIC)

.PHONY: cluster
cluster: tools-test build ## A city on a real cluster: images, operator, simulated rides; until Ctrl-C
	scripts/cluster.sh

.PHONY: test-cluster
test-cluster: tools-test build ## Change and break a city on a real cluster while it is used; prints a table (7 minutes)
	scripts/test-cluster.sh

.PHONY: campaign-cluster
campaign-cluster: tools-test build ## Every case of test-cluster: faults, loads, ten cities; prints a table (40 minutes)
	scripts/test-cluster.sh --all

.PHONY: test
test: tools-test build ## Run every test this machine can run
	scripts/test.sh

.PHONY: campaign
campaign: tools-test ## Run the fault suites for CAMPAIGN_MINUTES (20) and print a table of the outcomes
	scripts/campaign.sh

.PHONY: campaign-operator
campaign-operator: tools-test ## Kill the operator before and after every call; needs an API server
	scripts/campaign-operator.sh

.PHONY: test-oldest
test-oldest: tools-test build ## Run the suites on an API server on the oldest supported Kubernetes
	scripts/test-oldest.sh

.PHONY: nightly
nightly: ## Run the campaigns, test-oldest and test-images, each even if another one fails
	@failed=0; for suite in campaign campaign-operator campaign-cluster test-oldest test-images; do \
	$(MAKE) $$suite || failed=1; done; exit $$failed

.PHONY: images
images: ## Build release images of the two programs without a container engine, into target/images
	scripts/images.sh

.PHONY: test-images
test-images: images ## Run the images as a node does: size, user, read-only root, names and TLS; needs root
	scripts/test-images.sh

.PHONY: sbom
sbom: ## Write the software bills of materials of the two programs (CycloneDX), into target/sbom
	@scripts/tools.sh sbom
	scripts/sbom.sh

.PHONY: mutants
mutants: ## Change core and the store's pure parts at single places (hours); fails if tests miss more than 5 %
	@scripts/tools.sh mutants
	@failed=0; scripts/mutants.sh core || failed=1; scripts/mutants.sh store || failed=1; exit $$failed

.PHONY: bench
bench: tools-local ## Measure against the specification's algorithm (20 minutes); writes BENCHMARKS.md and docs/bench
	cargo build --locked --profile bench -p dispatch-bench -p dispatch-runtime -p dispatch-simulator -p dispatch-operator -p dispatch-local
	target/release/dispatch-bench

.PHONY: bench-quick
bench-quick: tools-local build ## Run the benchmarks at a small size, for correctness only; writes no figures
	target/debug/dispatch-bench --quick

.PHONY: lint
lint: tools-lint ## Check formatting, clippy, rustdoc, shell scripts, licences and advisories
	scripts/lint.sh

.PHONY: generate
generate: tools-test ## Rewrite the generated files: CRD, OpenAPI document, IAM policies
	UPDATE_GENERATED=1 cargo test -q --locked --workspace --all-features --lib generated
	UPDATE_GENERATED=1 cargo test -q --locked --workspace --all-features --test manifests the_policies_are

# The same selection as that of the tests, so that cargo resolves the same features and builds each dependency once.
# Releases build the two production programs alone (Containerfile).
.PHONY: build
build:
	cargo build --locked --workspace --all-features --bins

.PHONY: tools-local
tools-local:
	@scripts/tools.sh local

.PHONY: tools-test
tools-test:
	@scripts/tools.sh test

.PHONY: tools-lint
tools-lint:
	@scripts/tools.sh lint
