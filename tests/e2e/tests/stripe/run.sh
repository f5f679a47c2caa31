#!/usr/bin/env bash
# Runs a command with localstripe, a server of Stripe's protocol from PyPI, at STRIPE_ENDPOINT; it is gone when the command ends.
# In: a folder for the tool, and the command. Again: it is not installed anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
to=$1
shift
mkdir -p "$to"
if ! cmp -s "$here/requirements.txt" "$to/requirements.txt"; then
  "${PYTHON:-python3}" -m venv "$to/venv"
  "$to/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$to/"
fi
port=$("${PYTHON:-python3}" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
# Without its file in /tmp, which would be that of every other localstripe of this machine.
"$to/venv/bin/python" -c '
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
server.start()' --port "$port" --from-scratch >"$to/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
export STRIPE_ENDPOINT="http://127.0.0.1:$port"
for _ in $(seq 100); do
  if curl --silent --output /dev/null "$STRIPE_ENDPOINT/"; then "$@"; exit; fi
  kill -0 $server 2>/dev/null || { cat "$to/log" >&2; exit 1; }
  sleep 0.1
done
echo "localstripe does not answer at $STRIPE_ENDPOINT:" >&2
cat "$to/log" >&2
exit 1
