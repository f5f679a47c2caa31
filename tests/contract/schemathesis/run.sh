#!/usr/bin/env bash
# Calls the running stack with what its description allows and does not, for three minutes at most: no answer is a 5xx or one
# that the description does not have. In: the settings of the stack in ORDERFLOW_STACK, a folder for the tool. Again: it is not installed anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
to=$1
mkdir -p "$to"
if ! cmp -s "$here/requirements.txt" "$to/requirements.txt"; then
  "${PYTHON:-python3}" -m venv "$to/venv"
  "$to/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$to/"
fi
set -a
# shellcheck disable=SC1090
. "$ORDERFLOW_STACK"
set +a
cd "$to"
# Of the checks, those of what is answered. Whether each call is signed, and which methods are refused, other tests see.
PYTHONPATH="$here" SCHEMATHESIS_HOOKS=hooks timeout 180 venv/bin/schemathesis run "$here/../../../docs/openapi.json" \
  --url "$API_URL" --max-time "${SECONDS_MAX:-120}" --seed "${ORDERFLOW_SEED:-1}" --continue-on-failure --generation-database=none \
  --suppress-health-check all --warnings off \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,allow_header_conformance
