# make help lists what there is. Nothing but Go, git and make must be there;
# script/setup sees to the rest.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.DEFAULT_GOAL := help
.PHONY: help demo test torture bite bench build lint fmt db clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## import, dial and report a sample campaign on the simulator: calls nobody
	@script/setup
	@$(MAKE) --no-print-directory build
	bin/dialer demo

test: ## check and test everything, as CI does
	@script/setup race
	script/lint
	script/test

torture: ## let everything go wrong at once, by a seed that is printed; LONG=1 for the long form, ARGS for its numbers
	@script/setup
	go test ./internal/torture -run 'TestTorture$$' -count=1 -timeout 4h -v $(if $(LONG),-torture.long) $(ARGS)

bite: ## put known bugs into a copy of the source: every one must make a test fail
	@script/setup
	script/bite

bench: ## measure every goal beside what people would use, into bench/results.md; SHORT=1 only shows that all works, ARGS for its flags
	@script/setup
	cd bench && go build -buildvcs=false -o ../bin/bench .
	bin/bench $(if $(SHORT),,-full -o bench) $(ARGS)

build: ## build bin/dialer, static
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.release=$(VERSION)' -o bin/dialer ./cmd/dialer

lint: ## check format, vet, go fix and staticcheck
	script/lint

fmt: ## format the source
	gofmt -w .

db: ## a shell with an empty Postgres in DIALER_TEST_DATABASE_URL, gone when the shell ends
	@script/setup
	bin/withpg "$${SHELL:-sh}"

clean: ## remove what the build made; the data in .dialer stays, it may be a real ledger
	rm -rf bin
