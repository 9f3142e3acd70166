# podbox: what a developer types. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
GO ?= go
SUDO ?= sudo
PKGS ?= ./...
FUZZTIME ?= 10s
BENCH ?= .
BENCHTIME ?= 1s
TESTFLAGS ?=
KERNELS ?= 6.1 6.12
FULL ?=

VERSION ?= $(shell git describe --tags --match 'v*' --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X github.com/podbox/podbox/cmd/internal/release.version=$(VERSION)

# Tests and benchmarks make namespaces and links. Where we are not root, only the
# compiled test programs are given to sudo: they change nothing in the user's
# caches.
ifneq ($(shell id -u),0)
AS_ROOT := -exec '$(SUDO) env "PATH=$(PATH)" "HOME=$(HOME)" PODBOX_PRIVILEGED=1'
ASK := $(SUDO) -v
else
AS_ROOT :=
ASK := :
endif
export PODBOX_PRIVILEGED := 1

# The compiler whose output is committed as *_linux_amd64 and *_linux_arm64 beside each C program.
PAUSE_CC := 12.2.0

##@ Build

.PHONY: build
build: ## Build bin/podbox, bin/podbox-kube and bin/podtalk, static, without a C compiler
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/podtalk ./examples/podtalk

.PHONY: install
install: build ## Install programs, manual pages, completions and units (PREFIX=/usr/local, DESTDIR)
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' hack/dist/install.sh install bin

.PHONY: uninstall
uninstall: ## Remove what make install has put there
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' hack/dist/install.sh uninstall

.PHONY: man
man: build ## Write the manual pages to bin/man
	@rm -rf bin/man && bin/podbox manual bin/man

.PHONY: dist
dist: ## Make .deb, .rpm and tarballs for amd64 and arm64 in dist/ (of the last commit; ARCHES)
	@hack/dist/dist.sh

.PHONY: generate
generate: ## Rebuild the pause and the other small programs for amd64 and arm64 (needs gcc for both)
	$(GO) generate ./...

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

##@ See it work

.PHONY: demo
demo: build ## Show the main job on real programs (asks sudo for root)
	@hack/demo.sh

##@ Check

.PHONY: test
test: ## Run every test (asks sudo for root)
	@$(ASK)
	$(GO) test -count=1 -timeout 10m $(AS_ROOT) $(TESTFLAGS) $(PKGS)

.PHONY: race
race: ## Run every test with the race detector (needs a C compiler)
	@$(ASK)
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -count=1 -timeout 15m -race $(AS_ROOT) $(TESTFLAGS) $(PKGS)

.PHONY: test-net
test-net: ## Try pods' network with routers and machines outside, the long forms (asks sudo for root)
	@$(ASK)
	$(GO) test -count=1 -timeout 10m $(AS_ROOT) $(TESTFLAGS) ./internal/nettest -full
.PHONY: test-vm
test-vm: ## Run the tests in virtual machines (KERNELS='6.1 6.12', or a whole Debian's checks with FULL=1)
	$(GO) run ./hack/testvm -kernels '$(KERNELS)' -pkgs '$(PKGS)' $(if $(FULL),-full) $(TESTFLAGS)

.PHONY: test-firewalls
test-firewalls: build ## Try pods beside ufw, firewalld and Docker, each in a room of its own
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/firewalls.sh

.PHONY: fuzz
fuzz: ## Fuzz each fuzz target for FUZZTIME (10s)
	@$(GO) list $(PKGS) | while read -r pkg; do \
		{ $(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true; } | while read -r target; do \
			echo "$$pkg $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$pkg" </dev/null; \
		done; \
	done

LINTS := lint-format lint-vet lint-vet-arm64 lint-static lint-module lint-shell lint-pause

.PHONY: lint $(LINTS)
lint: ## Run every linter: gofumpt, go vet, staticcheck, go.mod, shellcheck, the programs in C
	@$(MAKE) --no-print-directory --keep-going $(LINTS)

lint-format:
	@files=$$($(GO) tool gofumpt -l .); \
	[[ -z $$files ]] || { $(GO) tool gofumpt -d $$files || true; echo 'cure: go tool gofumpt -w .'; exit 1; }
	@echo 'ok   gofumpt'

lint-vet:
	@$(GO) vet ./... && echo 'ok   go vet'

lint-vet-arm64:
	@GOARCH=arm64 $(GO) vet ./... && echo 'ok   go vet, arm64'

lint-static:
	@$(GO) tool staticcheck ./... && echo 'ok   staticcheck'

lint-module:
	@$(GO) mod tidy -diff && $(GO) mod verify >/dev/null && echo 'ok   go.mod, go.sum'

lint-shell:
	@if command -v shellcheck >/dev/null; then \
		shellcheck .ci/run hack/*.sh hack/testvm/guest/*.sh hack/dist/*.sh hack/dist/deb/p* && echo 'ok   shellcheck'; \
	else echo '--   shellcheck is not installed'; fi

# The same compiler gives the same bytes, another need not.
lint-pause:
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	for dir in internal/pause internal/reaper internal/guardian launcher/internal/doorstep; do prog=$${dir##*/}; for arch in amd64:x86_64 arm64:aarch64; do \
		cc=$${arch#*:}-linux-gnu-gcc arch=$${arch%:*}; \
		found=$$($$cc -dumpfullversion 2>/dev/null || true); \
		if [[ $$found != $(PAUSE_CC) ]]; then \
			echo "--   $$prog, $$arch: $$cc is $${found:-not installed}, not $(PAUSE_CC)"; continue; \
		fi; \
		CC_AMD64=x86_64-linux-gnu-gcc hack/build-c.sh $$dir "$$tmp" $$arch; \
		cmp "$$tmp/$${prog}_linux_$$arch" $$dir/$${prog}_linux_$$arch || { echo 'cure: make generate'; exit 1; }; \
		echo "ok   $$prog, $$arch, is what its source gives"; \
	done; done

SOAK ?= 1h
SEED ?= 0

.PHONY: soak
soak: build ## Do everything to pods at random, for SOAK (1h), and look whether all holds (SEED=0; asks sudo for root)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/soak ./hack/soak
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )bin/soak -podbox bin/podbox -for $(SOAK) -seed $(SEED)

##@ Measure

.PHONY: bench
bench: ## Run the Go benchmarks (BENCH=., BENCHTIME=1s; asks sudo for root)
	@$(ASK)
	$(GO) test -count=1 -timeout 30m -run='^$$' -bench='$(BENCH)' -benchtime=$(BENCHTIME) -benchmem $(AS_ROOT) $(PKGS)

.PHONY: bench-peers
bench-peers: build ## Measure whole commands beside podman, runc, bwrap, ip netns, nsenter
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-peers.sh

.PHONY: bench-containers
bench-containers: build ## Measure containers beside bwrap, runc, podman, conmon
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-containers.sh

.PHONY: bench-images
bench-images: build ## Measure images beside podman and umoci
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-images.sh

.PHONY: bench-kube
bench-kube: build ## Measure Pod YAML and images beside podman, umoci
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-kube.sh

.PHONY: bench-net
bench-net: build ## Measure throughput and latency of pods beside a CNI bridge
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-net.sh

.PHONY: bench-scale
bench-scale: build ## Measure 2,000 pods with published ports beside podman and CNI plugins
	$(if $(AS_ROOT),$(SUDO) env "PATH=$(PATH)" )hack/bench-scale.sh

##@ Help

.PHONY: help
help: ## Print this
	@awk 'BEGIN { FS = ":.*## "; print "usage: make TARGET" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
