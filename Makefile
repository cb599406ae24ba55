# `make` says what there is to do.

# The versions of the tools stand here and nowhere else. Those of the browser
# side stand in e2e/package-lock.json, those of Go modules in the two go.mod.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

BIN      := $(CURDIR)/bin
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X main.version=$(VERSION)
MODULES  := . bench e2e
FUZZTIME ?= 10s
SEEDS    ?= $(shell seq 30)
CUTS     ?= 24

.DEFAULT_GOAL := help

.PHONY: help
help: ## says what there is to do
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## builds bin/millstream
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/millstream ./cmd/millstream

.PHONY: run
run: ## runs the server with its sample kinds on http://127.0.0.1:8080
	go run ./cmd/millstream serve

.PHONY: test
test: race bench-check e2e ## everything: unit tests under the race detector, the benchmark's, the end-to-end tests; installs what they need

.PHONY: unit
unit: ## unit tests alone, without the race detector
	go test ./...

.PHONY: race
race: ## unit tests under the race detector
	go test -race -timeout 15m ./...

.PHONY: e2e
e2e: setup ## drives the real binary: browser, nginx, curl, npm clients, kill -9
	cd e2e && go test -count=1 -timeout 15m .

.PHONY: soak
soak: setup ## the end-to-end tests that grow with patience, at full size: 1 GiB without a newline, in and out, 20 crashes, an hour of torture
	cd e2e && go test -count=1 -timeout 120m -v -run 'TestCrash|TestNoNewline|TestOneKey|TestLarge|TestMortal|TestTorture$$' . -args -soak

.PHONY: torture
torture: build ## kills, stops and cuts off a server for a minute from each of SEEDS (1 to 30), and judges it
	for seed in $(SEEDS); do $(BIN)/millstream torture --seed $$seed || exit 1; done

.PHONY: powercut
powercut: ## cuts the power of a disk under the server CUTS (24) times, and looks for what it had told; Linux, as root
	cd e2e/powercut && go test -count=1 -timeout 60m -v . -args -cuts $(CUTS)

.PHONY: setup
setup: ## installs what the end-to-end tests drive, where it is missing
	e2e/setup.sh

.PHONY: lint
lint: $(BIN)/staticcheck ## gofmt, go vet and staticcheck, over all modules
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	for m in $(MODULES); do (cd $$m && go vet ./... && $(BIN)/staticcheck ./...) || exit 1; done

$(BIN)/staticcheck: Makefile
	GOBIN=$(BIN) go install $(STATICCHECK)

.PHONY: generate
generate: ## the code that is made of handlers/graph/schema.graphqls
	cd handlers/graph && go generate .

.PHONY: generated
generated: generate ## fails unless that is what is committed
	git diff --exit-code handlers/graph

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@set -e; grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's/:func / /' | while read -r file name; do \
		echo "$$name"; go test "$$(dirname "$$file")" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME); \
	done

.PHONY: bench
bench: ## measures the server beside the least that a server can do, and prints Markdown
	cd bench && go run .

.PHONY: bench-check
bench-check: ## sees that the benchmark works; judges no figure
	cd bench && go test -count=1 ./...

.PHONY: microbench
microbench: ## the benchmarks that stand beside the code
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: image
image: ## builds the container image with Docker
	docker build --build-arg VERSION=$(VERSION) -t millstream:$(VERSION) .

.PHONY: image-check
image-check: ## builds and runs the image without a Docker engine or a registry
	deploy/image-check.sh

.PHONY: clean
clean: ## removes what the other targets made
	rm -rf $(BIN) e2e/node_modules
