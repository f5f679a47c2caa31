"""Tests that the functions of a stack have logged nobody's e-mail address, and with each line where it is from.

    python3 localstack/stack.py with --mail-mode ses -- sh -c '... && python3 localstack/tests/personal_data.py relay'

In: the functions, all of which the tests before have used; `ORDERFLOW_STACK`, the settings file of the stack, and its
CloudWatch Logs since it began.
Out: the lines that have an address or lack a field, and exit status 1. With `--mail-mode console` the mails themselves
are in the log, which is what that mode is for.
"""

import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.virtual_environment import enter_stack_environment

ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
# As docs/telemetry.md has them.
FIELDS_OF_LINES = {"timestamp", "level", "message", "service", "function", "cold_start"}
# Of the line that each invocation, or each message of one, ends with.
FIELDS_OF_OUTCOMES = {
    "request answered": {"request_id", "correlation_id", "trace_id", "status"},
    "message handled": {"request_id", "consumer", "outcome"},
    "connection served": {"request_id", "status"},
    "outbox swept": {"request_id"},
}
LINES_SHOWN_MAX = 20


def is_incomplete(line: str) -> bool:
    """Whether a line of our own lacks a field. Lambda's own lines and those of metrics have others."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    if not isinstance(entry, dict) or "level" not in entry:
        return False
    wanted = FIELDS_OF_LINES | FIELDS_OF_OUTCOMES.get(str(entry.get("message")), set())
    if entry.get("event_type"):
        wanted = wanted | {"order_id", "event_id", "correlation_id", "trace_id"}
    return not wanted <= entry.keys()


def main() -> None:
    enter_stack_environment()
    # Not at the top: it imports boto3, which only the stack's environment has for certain.
    from orderflow_stack import logs

    lines = Path(os.environ["ORDERFLOW_STACK"]).read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    # With the credentials that the stack was deployed with.
    os.environ.update(settings)
    functions = sys.argv[1:] or sys.exit("error: name the functions whose logs are to be looked at")
    found, incomplete, silent, count = [], [], [], 0
    for function in functions:
        lines = logs.read_lines(settings["EMULATOR_URL"], function, 0)
        count += len(lines)
        found += [f"{function}: {line}" for line in lines if ADDRESS.search(line)]
        incomplete += [f"{function}: {line}" for line in lines if is_incomplete(line)]
        if not any('"service"' in line for line in lines):
            silent.append(function)
    if silent:
        sys.exit(f"error: no log of {', '.join(silent)}: nothing was looked at")
    if found:
        shown = "\n".join(found[:LINES_SHOWN_MAX])
        sys.exit(f"error: {len(found)} of {count} lines of the functions' logs have an e-mail address:\n{shown}")
    if incomplete:
        shown = "\n".join(incomplete[:LINES_SHOWN_MAX])
        sys.exit(f"error: {len(incomplete)} of {count} lines of the functions' logs lack fields:\n{shown}")
    print(f"No e-mail address in {count} lines of the functions' logs.")


if __name__ == "__main__":
    main()
