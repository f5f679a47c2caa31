"""Reads the functions' logs from the emulator's CloudWatch Logs."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from orderflow_stack import aws
from orderflow_stack.deployment import STACK_NAME

PREFIX = f"/aws/lambda/{STACK_NAME}-"
POLL_SECONDS = 1.0
# Each poll reads this much again, for events that are stored a little later than they say.
OVERLAP_MS = 30_000


def follow(endpoint: str) -> None:
    """Prints what the functions log from now on, each line after its function's name."""
    client = aws.client("logs", endpoint)
    begun = now()
    printed: Counter[tuple[str, ...]] = Counter()
    print("Following the logs of all functions; Ctrl-C ends it.", flush=True)
    while True:
        found: Counter[tuple[str, ...]] = Counter()
        for group, event in _all_events(client, max(begun, now() - OVERLAP_MS)):
            # Not every emulator gives its events an id; equal ones are told apart by their number.
            key = (group, event["logStreamName"], str(event["timestamp"]), event["message"])
            found[key] += 1
            if found[key] > printed[key]:
                _print(group.removeprefix(PREFIX), event)
        printed = found
        time.sleep(POLL_SECONDS)


def lines(endpoint: str, function: str, since: int) -> list[str]:
    """What one function has logged since then (milliseconds)."""
    found = _events(aws.client("logs", endpoint), PREFIX + function, since)
    return [line for event in found for line in _lines(event)]


def now() -> int:
    """The time as CloudWatch Logs has it."""
    return int(time.time() * 1000)


def _all_events(client: Any, since: int) -> Iterator[tuple[str, dict[str, Any]]]:
    pages = client.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=PREFIX)
    for group in [group["logGroupName"] for page in pages for group in page["logGroups"]]:
        for event in _events(client, group, since):
            yield group, event


def _events(client: Any, group: str, since: int) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
    for page in pages:
        yield from page["events"]


def _print(function: str, event: dict[str, Any]) -> None:
    for line in _lines(event):
        print(f"{function:<22} | {line}", flush=True)


def _lines(event: dict[str, Any]) -> list[str]:
    # An empty message is an empty line, of a mail for example.
    return event["message"].splitlines() or [""]
