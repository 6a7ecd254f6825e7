# Everything people and CI run. "make help" lists it.

MODULE := github.com/plexusmesh/plexus
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A clone may belong to another user than the one who builds it, and need not be
# a git tree at all.
GIT := git -c safe.directory='*'
VERSION ?= $(or $(shell $(GIT) describe --tags --match 'v*' --dirty 2>/dev/null),v0.0.0-dev)
COMMIT ?= $(or $(shell $(GIT) rev-parse HEAD 2>/dev/null),unknown)
DATE ?= $(or $(shell TZ=UTC $(GIT) log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null),unknown)
LDFLAGS := -s -w \
	-X $(MODULE)/internal/version.Version=$(VERSION) \
	-X $(MODULE)/internal/version.Commit=$(COMMIT) \
	-X $(MODULE)/internal/version.Date=$(DATE)

export GOFLAGS := $(GOFLAGS) -buildvcs=false
export BPF2GO_CC ?= clang-19
export BPF2GO_STRIP ?= llvm-strip-19
ifeq ($(shell id -u),0)
export PLEXUS_TEST_REQUIRE ?= kernel
endif

GOTEST := go run ./internal/gotest
FUZZTIME ?= 5s

# Tests that need the kernel say so themselves, by importing the gate for it.
KERNEL_PKGS = $(shell go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | \
	grep -E 'internal/(netnstest|lab)[] ]' | grep -vE '/test/(e2e|bench|script|vm/mesh) ' | cut -d' ' -f1)
E2E_PKGS = ./test/e2e/...
OTHER_PKGS = $(filter-out $(KERNEL_PKGS) $(MODULE)/test/e2e/% $(MODULE)/test/e2e $(MODULE)/test/vm/mesh,$(shell go list ./...))

.PHONY: help
help: ## print the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | \
		while IFS=$$'\t' read -r target text; do printf '  %-12s %s\n' "$$target" "$$text"; done

.PHONY: build
build: ## build bin/plexusd and bin/plexus, static
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

PREFIX ?= /usr/local

.PHONY: install
install: build ## install both binaries into $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/plexusd bin/plexus

.PHONY: build-all
build-all: ## build for every platform into bin/linux-ARCH
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -trimpath -ldflags '$(LDFLAGS)' -o bin/linux-$$arch/ ./cmd/...; \
	done

.PHONY: bin/plexus-lab
bin/plexus-lab: # build the test hosts' command, for shell scripts
	go build -trimpath -o bin/plexus-lab ./internal/lab/cmd/plexus-lab

.PHONY: print-ldflags
print-ldflags:
	@echo "$(LDFLAGS)"

.PHONY: deps
deps: ## install the Debian packages that building and testing need
	tools/deps.sh test

.PHONY: deps-run
deps-run: # what hosts and the demo need
	tools/deps.sh run

.PHONY: test
test: ## run everything: install what is needed, lint, verify, all tests; about 40 minutes on 2 cores with nothing cached
	FUZZTIME=10000x tools/stage.sh deps build build-all lint verify test-race test-cilium test-kernel fuzz test-e2e

.PHONY: test-race
test-race: ## run the tests that need no kernel, with the race detector
	$(GOTEST) -race -timeout 10m $(OTHER_PKGS)

# A module of its own, as Cilium's code is no dependency of Plexus.
.PHONY: test-cilium
test-cilium: bin/golangci-lint ## compare policy with Cilium's own code; built cold, it takes minutes
	go build -trimpath -o bin/gotest ./internal/gotest
	cd test/cilium && ../../bin/gotest -count 1 -timeout 10m ./... && ../../bin/golangci-lint run ./...

.PHONY: test-kernel
test-kernel: ## run the tests of real kernel objects, with the race detector; as root
	$(GOTEST) -race -count 1 -p 1 -timeout 25m $(KERNEL_PKGS)

.PHONY: test-e2e
test-e2e: build bin/plexus-lab ## run whole daemons on test hosts; as root
	$(GOTEST) -count 1 -p 1 -timeout 25m $(E2E_PKGS)

# VM takes flags: VM='-kernels 5.10 -packages datapath/loader -run TestEvery'.
.PHONY: test-vm
test-vm: deps-vm ## run kernel tests and a mesh on Debian's kernels 5.10, 6.1 and 6.12, in virtual machines
	go run ./test/vm $(VM)

.PHONY: test-vm-budget
test-vm-budget: deps-vm ## write what those kernels' verifiers look at into test/vm/budget.yaml
	go run ./test/vm -update

.PHONY: deps-vm
deps-vm: # what virtual machines need
	tools/deps.sh vm

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (5s)
	tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: deps build ## measure everything that has a target, or what BENCH names (docs/benchmarks.md); as root
	go build -trimpath -o bin/plexus-bench ./test/bench
	go test -c -o bin/loader.test ./datapath/loader
	bin/plexus-bench $(BENCH)

.PHONY: generate
generate: ## regenerate BPF objects and Go code, with clang 19
	go generate ./...

.PHONY: verify
verify: ## check generated code, formatting, vet and the architecture
	tools/verify-generated.sh
	unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on: $$unformatted"; exit 1; fi
	go mod tidy -diff
	go vet ./...
	$(GOTEST) -count 1 ./internal/arch

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && go build -trimpath -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: lint
lint: bin/golangci-lint ## lint Go code and shell scripts
	bin/golangci-lint run ./...
	shellcheck .ci/run $$(find . -name '*.sh' -not -path './bin/*')

.PHONY: demo
demo: deps-run build bin/plexus-lab ## show three hosts in a mesh; KEEP=1 leaves them running; as root
	KEEP=$(KEEP) test/demo/run.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
