# One entry point for everything; each target is a script or a cmake call that works on its own too.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long serve bench fuzz format lint clean build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## build, start a server on a temporary store, push, fetch, deploy, infer, check, stop
	@scripts/demo.sh

test: ## build and run the tests
	@scripts/test.sh

test-long: ## what is run before an issue is closed: TSan, clang, 1,000 kills, long fuzzing, other Debian releases
	@scripts/test_long.sh

build: ## only build, into build/bin
	@scripts/setup.sh --with build --with torch --with test
	@scripts/build.sh release

serve: ## run the server on ./sconce-data
	@scripts/serve.sh

bench: ## build and run the benchmarks
	@scripts/bench.sh

fuzz: ## run each fuzzer for 30 seconds
	@scripts/fuzz.sh

format: ## format the C++ sources
	@scripts/setup.sh --with lint
	@scripts/lint.sh --fix

lint: ## check formatting, layers and lists
	@scripts/setup.sh --with lint
	@scripts/lint.sh

clean: ## remove what was built (not ./sconce-data)
	rm -rf build build-*
