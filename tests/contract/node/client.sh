#!/usr/bin/env bash
# Generates a client from docs/openapi.json, and places an order with it on the stack of ORDERFLOW_STACK.
set -euo pipefail
cd "$(dirname "$0")"
set -a
# shellcheck disable=SC1090
. "$ORDERFLOW_STACK"
set +a
# The shop sells something.
curl -sS --fail -o /dev/null -X POST "$API_URL/products" -H 'content-type: application/json' \
  --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
  -d '{"name": "Lamp", "price": 20.50, "stock": 10, "category": "home"}'
mkdir -p generated
node_modules/.bin/openapi-typescript ../../../docs/openapi.json --output generated/api.d.ts >/dev/null
node_modules/.bin/tsc --strict --target es2022 --module es2022 --moduleResolution bundler --skipLibCheck --types node \
  --outDir generated client.ts
mv generated/client.js generated/client.mjs
node generated/client.mjs
