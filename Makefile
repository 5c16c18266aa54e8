# Everything a person or CI does with the repository. `make` alone lists it.
SHELL := /bin/bash
VERSION ?= $(shell cat VERSION)-$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/convoflow/convoflow/libs/run.version=$(VERSION)
URL ?= http://127.0.0.1:8000
# As in the images (deploy/docker/Dockerfile): S3, but no drivers of Google Cloud Storage and Azure.
TAGS ?= nogcs,noazure,grpcnotrace
SERVICES ?= services/auth services/calls services/crm services/notify gateway

.DEFAULT_GOAL := help
.PHONY: help setup console screenshots build demo up test test-kafka test-k8s fault bench check generate fmt services release-contract released-migrations clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## install what is missing on this machine
	@scripts/setup

console: ## bundle the web console into console/dist, which the gateway embeds (no Node)
	@go run ./console/build

screenshots: ## make the images of the README, docs/images, from a platform with seeded data (needs Chromium)
	@scripts/screenshots

build: console ## build bin/convoflow, the whole platform in one binary
	@echo "Building bin/convoflow $(VERSION) (the first build compiles everything and takes a few minutes)"
	@mkdir -p bin && go build -trimpath -ldflags '$(LDFLAGS)' -o bin/convoflow ./platform/cmd/convoflow

demo: setup build ## do the main job on the platform at URL=http://127.0.0.1:8000, or on a temporary one when none runs
	@exec bin/convoflow demo --url '$(URL)'

up: setup build ## start the whole platform and keep it running: no key, no Docker; Ctrl-C stops it
	@exec bin/convoflow up

test: console ## run every test, those of the code with the race detector (ARGS='-run Upload -v' go to go test)
	@scripts/test $(ARGS)

test-kafka: ## run the tests of events and crashes against a real Apache Kafka (needs Java; installs it)
	@scripts/test-kafka $(ARGS)

test-k8s: ## apply deploy/k8s to a real Kubernetes API server with simulated nodes (4 minutes; the first run builds it, 5 to 15 more)
	@scripts/test-k8s $(ARGS)

fault: ## inject every fault into two replicas of each service under load and check that nothing is lost or doubled (ARGS='--help')
	@scripts/fault $(ARGS)

bench: ## measure against nginx and the machine's own limits (ARGS='--help' lists the options)
	@scripts/bench $(ARGS)

check: ## format, lint, import rules, tidy modules, each module built alone
	@scripts/check

generate: ## write again what is generated from Go and from the contract; its recipe lists all of it
	@echo "deploy/prometheus/{rules,tests} and deploy/grafana/dashboards, from deploy/observe" && go run ./deploy/observe
	@echo "deploy/k8s/components/monitoring/rules.yaml, from deploy/prometheus/rules" && go test ./deploy -run PrometheusRule -count=1 -update >/dev/null
	@echo "console/src/schema.gen.ts, from api/*.yaml (needs npm)" && mkdir -p .tools && go run ./api/cmd/openapi >.tools/openapi.json && \
	  cd console && npm ci --no-audit --no-fund --silent && npm run --silent types >/dev/null

fmt: ## format the Go files
	@gofmt -w $$(git ls-files '*.go')

services: console ## build bin/{auth,calls,crm,notify,gateway}, each by itself (SERVICES='gateway' some of them)
	@mkdir -p bin && for s in $(SERVICES); do \
	  echo "Building bin/$${s##*/}" && (cd $$s && GOWORK=off CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o $(CURDIR)/bin/$${s##*/} ./cmd/$${s##*/}) || exit 1; done

release-contract: ## at a release: make the contract, migrations and programs of now those that later versions are compared with
	@go run ./test/contract/cmd/release-contract
	@git rev-parse HEAD >test/released/commit
	@$(MAKE) --no-print-directory released-migrations

released-migrations: ## record the migrations of now as released: they never change again, and the linter judges later ones
	@sha256sum $$(git ls-files 'libs/*/migrations/*.sql' 'services/*/internal/store/migrations/*.sql') >test/released/migrations.sha256

clean: ## remove what was built (the data in .convoflow stays)
	@rm -rf bin .tools
