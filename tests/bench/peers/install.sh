#!/usr/bin/env bash
# Installs the peers into a folder: pinned versions, by their ordinary package managers. Again: nothing is done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
to=$1
mkdir -p "$to"
if ! cmp -s "$here/python/requirements.txt" "$to/python/requirements.txt"; then
  "${PYTHON:-python3}" -m venv "$to/python/venv"
  "$to/python/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/python/requirements.txt"
  cp "$here/python/requirements.txt" "$to/python/"
fi
cp "$here/python/shop.py" "$to/python/"
mkdir -p "$to/node"
if ! cmp -s "$here/node/package-lock.json" "$to/node/package-lock.json"; then
  cp "$here/node/package.json" "$here/node/package-lock.json" "$to/node/"
  (cd "$to/node" && npm ci --silent --no-audit --no-fund)
fi
cp "$here"/node/*.js "$here"/node/*.cjs "$to/node/"
(cd "$to/node" && node_modules/.bin/esbuild shop.js --bundle --minify --platform=node --target=node20 \
  --format=cjs --outfile=shop.cjs --log-level=warning)
