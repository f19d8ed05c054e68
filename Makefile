# Tidemark. `make demo` shows it at work, `make test` proves it.

GO      ?= go
BIN     := bin
# A test run that hangs is a failure: the integration suite ends well within this.
TIMEOUT ?= 40m
# Counted, not timed: go's fuzzer reports its own deadline as a failure when it comes at a bad moment.
FUZZTIME ?= 20000x
# make soak: how many workloads of schema changes, and the first one's seed.
SEEDS ?= 1000
SEED  ?= 1

.PHONY: help build demo test test-matrix test-regress lint fuzz soak bench bench-docs bench-go deps deps-demo clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## build archiver and restorer into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

demo: deps-demo ## archive a throwaway PostgreSQL while it is written to, destroy data, bring it back
	@$(GO) build -o $(BIN)/ ./cmd/...
	@$(GO) run ./integration/demo

# One package at a time: each starts servers of its own, and some measure memory. Of the random schema changes so many
# seeds that every kind and form occurs; soak runs as many as one likes.
test: deps lint fuzz ## everything, on a machine where nothing was installed by hand
	TIDEMARK_TEST_SEEDS=$(or $(TEST_SEEDS),20) $(GO) test -p 1 -timeout $(TIMEOUT) ./...

# The versions that aren't installed come from Debian's mirror or npm. test does this for the oldest and the newest.
test-matrix: deps ## archive on each of PostgreSQL 14 to 18, restore on the same and on each newer one
	TIDEMARK_TEST_VERSIONS="14 15 16 17 18" $(GO) test -timeout $(TIMEOUT) -v ./integration/matrix

# PostgreSQL's own regression suite (Debian's source package) through base snapshot, stream and restore. test does it too,
# but for the replay of every stretch between two base snapshots.
test-regress: deps ## the database of PostgreSQL's regression suite comes back the same
	TIDEMARK_TEST_REPLAY=1 $(GO) test -timeout $(TIMEOUT) -v ./integration/regress

lint: ## formatting and vet
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...

# Each fuzz target runs for FUZZTIME; what a longer run finds is added to testdata/fuzz and then always tested.
fuzz: ## run every fuzz target for a while
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg || exit 1; \
	  done; \
	done

# A failed seed is no reason to stop: those that failed are named at the end.
soak: deps ## archive and restore SEEDS random workloads of schema changes, from SEED on
	TIDEMARK_TEST_SEEDS=$(SEEDS) TIDEMARK_TEST_SEED=$(SEED) $(GO) test ./integration -run '^TestSchemaChangesComeThrough$$' -v -timeout 0

# Every goal of docs/performance.md, by the built programs and real servers. Give patterns to measure only some:
# make bench ROWS='drain*,follow-1' RUNS=5
bench: deps ## measure every goal of speed and size, against what else does the same
	$(GO) run ./bench -rows "$(ROWS)" -runs $(or $(RUNS),3) -scale $(or $(SCALE),1)

bench-docs: ## put the results of make bench into docs/performance.md, and draw the plot
	$(GO) run ./bench -render -docs docs

bench-go: ## Go benchmarks of the hot paths, with allocation counts
	$(GO) test -run '^$$' -bench . -benchmem ./walstream/... ./segment/... ./catalog/... ./pitr/...

deps-demo: ## install PostgreSQL where it is missing
	@deploy/install-deps postgres

deps: ## install what the tests need where it is missing
	@deploy/install-deps postgres npm cc

clean: ## remove what was built
	rm -rf $(BIN)
