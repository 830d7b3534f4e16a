# SPDX-License-Identifier: Apache-2.0

# Kernels of the VM matrix: series, or newest.
K        ?= 6.1 newest
FUZZTIME ?= 2m
BENCH    ?= bridge boot runtime daemon rules
SYSTEMS  ?= systems rungs work

# Stamp the commit where git can be asked; a checkout of another user cannot.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

.PHONY: help build test race fuzz lint generate vm bench systems opa demo scan check

help: ## print this list (plain make)
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

build: ## bin/arbiterd, bin/arbiterctl, bin/arbiter-bench
	@scripts/setup build
	CGO_ENABLED=0 go build -trimpath -buildvcs=$(BUILDVCS) -o bin/ ./cmd/...

test: ## everything: lint, unit, race, fuzz seeds, demo, generated files, VM matrix
	@scripts/setup test
	@K="$(K)" scripts/test

check: test ## what CI runs: the same as test

race: ## the tests under the race detector
	@scripts/setup race
	@scripts/test race

fuzz: ## each fuzz target for FUZZTIME
	@scripts/setup build
	@FUZZTIME="$(FUZZTIME)" scripts/test fuzz

lint: ## gofmt, go vet, staticcheck, go mod tidy
	@scripts/setup build
	@scripts/test lint

generate: ## write the generated files again (clang-19, libbpf)
	@scripts/setup generate
	@scripts/generate

vm: ## kernel tests in a virtual machine, on each of K="6.1 newest", a few on 6.12 and 6.18
	@scripts/setup vm
	@K="$(K)" scripts/test vm

bench: build ## what has a bar, on this machine: BENCH="bridge boot runtime daemon rules"
	@pause=; for what in $(BENCH); do $$pause; bin/arbiter-bench $$what || exit; pause='sleep 90'; done # or its load is the next one's noise

systems: ## what needs BPF LSM or a whole machine, in an emulated one: SYSTEMS="systems rungs work"
	@scripts/setup vm
	@for what in $(SYSTEMS); do scripts/systems $$what || exit; done

opa: ## bin/arbiter-bench-opa, which bin/arbiter-bench rules --opa compares with
	@scripts/setup build
	go -C bench/opa test ./...
	CGO_ENABLED=0 go build -C bench/opa -trimpath -buildvcs=$(BUILDVCS) -o ../../bin/arbiter-bench-opa .

demo: ## real programs allowed and refused by rules pushed over gRPC
	@scripts/setup build
	@scripts/demo

scan: ## programs held while Debian's clamd reads them, which is fetched and not installed
	@scripts/setup build
	@scripts/scan
