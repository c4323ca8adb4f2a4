# The commands of this project. CI calls these and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go

# The modules, each a folder with a go.mod: what only the examples or some tests need is no business
# of those who import the library.
MODULES := . examples integration integration/bench integration/brokers
# Those that make test looks at; the other two have targets of their own.
TESTED := . examples integration

# The packages a target works on, where it takes some, seen from the root: ./hub, ./examples/...
PKG ?=

# PKG's module is the longest of the folders that it lies in; there it has a shorter name.
PKG_PATH = $(patsubst ./%,%,$(PKG))
PKG_MODULE = $(lastword $(sort . $(foreach m,$(MODULES),$(if $(filter $(m) $(m)/%,$(PKG_PATH)),$(m)))))
PKG_MODULES = $(if $(PKG),$(PKG_MODULE),$(TESTED))
PKG_THERE = $(or $(if $(filter .,$(PKG_MODULE)),$(PKG),$(or $(patsubst /%,./%,$(patsubst $(PKG_MODULE)%,%,$(PKG_PATH))),.)),./...)

# each runs a go command on PKG or, without one, on all packages of the tested modules, one module
# after the other. When one fails the others run nevertheless.
define each
@failed=; for m in $(PKG_MODULES); do \
	echo "$$m" >&2; $(GO) -C "$$m" $(1) $(PKG_THERE) || failed=1; \
done; test -z "$$failed"
endef

# Tools of the checkout live in a git-ignored folder. A tool's stamp carries its version and that of Go, because a linter that was
# built by an older Go refuses to read newer code.
BIN := $(CURDIR)/.bin
GOLANGCI_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
GOLANGCI_STAMP = $(BIN)/golangci-lint-$(GOLANGCI_VERSION)-$(shell $(GO) env GOVERSION).stamp

##@ Use

.PHONY: help
help: ## Say what can be made
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Not go run: it would end at a signal without passing it on, and leave the demo and all it started alone; and it fails when a program
# was told to end, however well that went.
.PHONY: run
run: ## Start the tickets example; ARGS="-addr … -backend …" are its flags
	@$(GO) -C examples build -o $(BIN)/tickets ./tickets
	@exec $(BIN)/tickets $(ARGS)

.PHONY: demo
demo: ## Start two instances of each example on Redis behind nginx; ARGS="-addr … -again …" are its flags
	@$(GO) -C examples build -o $(BIN)/demo ./demo
	@cd examples && exec $(BIN)/demo $(ARGS)

##@ Check

# For one package; it only keeps a hang from lasting, so it is far from what a slow machine needs.
TIMEOUT ?= 15m
# Uncached, because the test cache cannot see that redis-server or Chromium came or went.
RACE = test -race -count=1 -timeout=$(TIMEOUT)

.PHONY: test
test: deps ## Say and install what the tests need, then run those that changes break, with the race detector
	@$(MAKE) --no-print-directory race

# The modules run beside each other: their tests wait more than they compute.
.PHONY: race
race: ## The same tests with what is installed already; PKG=./integration/... chooses
	@runs=; for m in $(PKG_MODULES); do \
		$(GO) -C "$$m" $(RACE) $(PKG_THERE) & runs+=" $$!"; \
	done; \
	failed=; for run in $$runs; do wait $$run || failed=1; done; test -z "$$failed"

.PHONY: test-long
test-long: deps ## Run the tests that make test leaves out: slow faults, loads, the page of every example
	@GO="$(GO)" TIMEOUT="$(TIMEOUT)" .ci/test-long $(TESTED)

.PHONY: short
short: ## Run one test without installing anything: make short RUN=TestName PKG=./hub
	@test -n "$(RUN)" -a -n "$(PKG)" || { echo 'usage: make short RUN=TestName PKG=./hub' >&2; exit 2; }
	@HEADRACE_LONG=1 $(GO) -C "$(PKG_MODULE)" test -run '$(RUN)' -timeout=$(TIMEOUT) $(ARGS) $(PKG_THERE)

.PHONY: stress
stress: ## Run make test with two busy loops for each core beside it
	@.ci/stress $(MAKE) --no-print-directory test TIMEOUT=60m

# The module in integration/brokers has the libraries of the brokers, so that nobody else needs them. Those that are not embedded in the
# tests, RabbitMQ and PostgreSQL, take part in the long form only.
BROKERS_SHORT = ./brokertest/... ./gochannel/... ./nats/... ./kafka/... ./redisstream/...

.PHONY: test-brokers
test-brokers: ## Install what the brokers' tests need, then run them with the race detector; SHORT=1 leaves out RabbitMQ and PostgreSQL
	@$(if $(SHORT),,.ci/deps brokers)
	$(GO) -C integration/brokers test -race -count=1 -timeout=10m $(if $(SHORT),$(BROKERS_SHORT),./...)
	@# The client for AMQP has a data race of its own when it loses a connection: those tests run without the detector.
	$(if $(SHORT),,$(GO) -C integration/brokers test -count=1 -timeout=10m ./amqp)

# Seeds run beside each other: they wait more than they compute. Bounds of time are meant for a machine that is not busy, so the short
# form, which runs in CI, has more of it. A run that fails says how to run its seed again.
TOPOLOGY ?=
SEEDS ?= $(if $(SEED)$(SHORT),1,20)
FROM ?= $(or $(SEED),1)
TIME ?= $(if $(SHORT),12s,60s)
BESIDE ?= 4

.PHONY: test-faults
test-faults: deps ## Run hubs over Redis servers that fail as seeds choose, 15 minutes; SHORT=1, or TOPOLOGY=single SEED=7, SEEDS FROM TIME BESIDE
	$(GO) -C integration test -race -count=1 -timeout=3h -parallel=$(BESIDE) -run='^TestSeeds$$' ./faults \
		-topology=$(TOPOLOGY) -seeds=$(SEEDS) -from=$(FROM) -time=$(TIME) $(if $(SHORT),-slack=5) $(ARGS)

# Browsers are slow beside each other, so few cells run at once. The short form has the clients that need nothing but what make deps
# installs.
.PHONY: test-clients
test-clients: deps ## Install browsers, clients and proxies, then run the table of docs/clients.md and the configurations of docs/proxies.md, 5 minutes; SHORT=1 for a part of the table; ARGS="-step=1" cuts at every byte
	@$(if $(SHORT),,.ci/deps clients)
	$(GO) -C integration test -count=1 -timeout=30m -parallel=6 ./clients/table -cells $(if $(SHORT),-brief) $(ARGS)
	$(if $(SHORT),,HEADRACE_LONG=1 $(GO) -C integration test -count=1 -timeout=30m -run='Firefox|WebKit' ./tabs)
	$(if $(SHORT),,HEADRACE_LONG=1 $(GO) -C integration test -race -count=1 -parallel=8 ./proxies)

.PHONY: lint
lint: $(GOLANGCI_STAMP) ## Check formatting, go.mod and the code for every system it builds on
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then printf 'not formatted, see make tidy:\n%s\n' "$$unformatted" >&2; exit 1; fi
	@for m in $(MODULES); do \
		echo "$$m"; cd "$(CURDIR)/$$m"; \
		$(GO) mod tidy -diff; \
		GOOS=linux $(GO) vet ./...; \
		GOOS=linux $(BIN)/golangci-lint run ./...; \
	done
	@for m in $(TESTED); do \
		for system in darwin windows; do \
			echo "$$m for $$system"; \
			GOOS=$$system CGO_ENABLED=0 $(GO) -C "$$m" vet ./...; \
		done; \
	done

FUZZTIME ?= 20s

.PHONY: fuzz
fuzz: ## Run every fuzz function for FUZZTIME (20s)
	@for m in $(PKG_MODULES); do \
		cd "$(CURDIR)/$$m"; \
		list=$$($(GO) test -list '^Fuzz' $(PKG_THERE)) || { printf '%s\n' "$$list" >&2; exit 1; }; \
		awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }' <<<"$$list" | \
		while read -r pkg name; do \
			echo "$$pkg $$name"; \
			$(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$pkg" </dev/null || exit 1; \
		done; \
	done

BENCH ?= .
COUNT ?= 6

.PHONY: bench
bench: ## Run the benchmarks COUNT (6) times in benchstat's format; BENCH=regexp PKG=./hub choose
	$(call each,test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) -timeout=60m)

# Not go run, as for the demo. The short form builds only what it measures.
BENCH_PEERS = $(if $(SHORT),. ./load ./peers/raw ./peers/headrace ./peers/gosse,./...)

.PHONY: bench-peers
bench-peers: ## Measure headrace beside other servers, for a quarter of an hour; SHORT=1 only tries the measuring; ARGS="-runs … -only …"
	$(GO) -C integration/bench build -o $(BIN)/bench-peers/ $(BENCH_PEERS)
	@exec $(BIN)/bench-peers/bench $(if $(SHORT),-short) $(ARGS)

.PHONY: test-bench
test-bench: ## Run the tests of the measuring itself with the race detector
	$(GO) -C integration/bench test -race -count=1 -timeout=5m ./...

.PHONY: cover
cover: ## Measure how much of the library the tests reach; the report is cover.html
	@library=$$($(GO) list ./... | paste -sd, -); \
	echo 'mode: set' >cover.out; \
	for m in $(PKG_MODULES); do \
		$(GO) -C "$$m" test -count=1 -coverprofile=$(CURDIR)/cover.part -coverpkg="$$library" $(PKG_THERE); \
		tail -n +2 cover.part >>cover.out; rm cover.part; \
	done
	@$(GO) tool cover -html=cover.out -o cover.html
	@$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the code calls (reads the public database)
	$(call each,run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION))

##@ Prepare

.PHONY: deps
deps: ## Install redis-server, nginx, Chromium, Node.js and npm packages for the tests, or say what is missing
	@.ci/deps

.PHONY: tidy
tidy: ## Format the code and put every module's go.mod in order
	gofmt -w .
	@for m in $(MODULES); do echo "$$m"; $(GO) -C "$$m" mod tidy; done

$(GOLANGCI_STAMP):
	@mkdir -p $(BIN) && rm -f $(BIN)/golangci-lint-*.stamp
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@touch $@
