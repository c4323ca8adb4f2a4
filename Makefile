# The commands of this project. CI calls these and nothing else.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# The packages a target works on, where it takes some.
PKG ?= ./...

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
	@$(GO) build -o $(BIN)/tickets ./examples/tickets
	@exec $(BIN)/tickets $(ARGS)

.PHONY: demo
demo: ## Start two instances of each example on Redis behind nginx; ARGS="-addr … -again …" are its flags
	@$(GO) build -o $(BIN)/demo ./examples/demo
	@exec $(BIN)/demo $(ARGS)

##@ Check

.PHONY: test
test: deps ## Install what the tests need, then run them all once with the race detector
	@$(MAKE) --no-print-directory race

# Uncached, because the test cache cannot see that redis-server or Chromium came or went. The timeout is for one package and keeps a
# hang from eating the eight minutes that the whole pass may take on two cores.
.PHONY: race
race: ## Run the tests with the race detector, with what is installed already
	$(GO) test -race -count=1 -timeout=7m $(PKG)

# The module in integration/brokers has the libraries of the brokers, so that nobody else needs them. Those that are not embedded in the
# tests, RabbitMQ and PostgreSQL, take part in the long form only.
BROKERS_SHORT = ./brokertest/... ./gochannel/... ./nats/... ./kafka/... ./redisstream/...

.PHONY: test-brokers
test-brokers: ## Install what the brokers' tests need, then run them with the race detector; SHORT=1 leaves out RabbitMQ and PostgreSQL
	@$(if $(SHORT),,.ci/deps brokers)
	cd integration/brokers && $(GO) test -race -count=1 -timeout=10m $(if $(SHORT),$(BROKERS_SHORT),./...)
	@# The client for AMQP has a data race of its own when it loses a connection: those tests run without the detector.
	$(if $(SHORT),,cd integration/brokers && $(GO) test -count=1 -timeout=10m ./amqp)

.PHONY: lint
lint: $(GOLANGCI_STAMP) ## Check formatting, go.mod and the code for every system it builds on
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then printf 'not formatted, see make tidy:\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) vet ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) vet ./...
	$(BIN)/golangci-lint run ./...
	cd integration/brokers && $(GO) mod tidy -diff && $(GO) vet ./... && $(BIN)/golangci-lint run ./...
	cd integration/bench && $(GO) mod tidy -diff && GOOS=linux $(GO) vet ./... && GOOS=linux $(BIN)/golangci-lint run ./...

FUZZTIME ?= 20s

.PHONY: fuzz
fuzz: ## Run every fuzz function for FUZZTIME (20s)
	@list=$$($(GO) test -list '^Fuzz' $(PKG)) || { printf '%s\n' "$$list" >&2; exit 1; }; \
	awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }' <<<"$$list" | \
	while read -r pkg name; do \
		echo "$$pkg $$name"; \
		$(GO) test -run='^$$' -fuzz="^$$name\$$" -fuzztime=$(FUZZTIME) "$$pkg" </dev/null || exit 1; \
	done

BENCH ?= .
COUNT ?= 6

.PHONY: bench
bench: ## Run the benchmarks COUNT (6) times in benchstat's format; BENCH=regexp PKG=./hub choose
	@$(GO) test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) -timeout=60m $(PKG)

# Not go run, as for the demo. The short form builds only what it measures.
BENCH_PEERS = $(if $(SHORT),. ./load ./peers/raw ./peers/headrace ./peers/gosse,./...)

.PHONY: bench-peers
bench-peers: ## Measure headrace beside other servers, for a quarter of an hour; SHORT=1 only tries the measuring; ARGS="-runs … -only …"
	cd integration/bench && $(GO) build -o $(BIN)/bench-peers/ $(BENCH_PEERS)
	@exec $(BIN)/bench-peers/bench $(if $(SHORT),-short) $(ARGS)

.PHONY: test-bench
test-bench: ## Run the tests of the measuring itself with the race detector
	cd integration/bench && $(GO) test -race -count=1 -timeout=5m ./...

.PHONY: cover
cover: ## Measure how much of the code the tests reach; the report is cover.html
	$(GO) test -count=1 -coverprofile=cover.out -coverpkg=./... $(PKG)
	@$(GO) tool cover -html=cover.out -o cover.html
	@$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what the code calls (reads the public database)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) ./...

##@ Prepare

.PHONY: deps
deps: ## Install redis-server, nginx, Chromium, Node.js and npm packages for the tests, or say what is missing
	@.ci/deps

.PHONY: tidy
tidy: ## Format the code and put go.mod in order
	gofmt -w .
	$(GO) mod tidy

$(GOLANGCI_STAMP):
	@mkdir -p $(BIN) && rm -f $(BIN)/golangci-lint-*.stamp
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@touch $@
