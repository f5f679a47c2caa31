"""Reads the functions' logs from the emulator's CloudWatch Logs.

In: the emulator's URL. Out: the lines that functions have logged, printed or returned.
Guarantees: `follow` prints each event once, and also those that are stored a little later than they say.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from orderflow_stack import aws
from orderflow_stack.deployed_stack import STACK_NAME

LOG_GROUP_PREFIX = f"/aws/lambda/{STACK_NAME}-"
POLL_INTERVAL_SECONDS = 1.0
# Each poll reads this much again, for events that are stored a little later than they say.
OVERLAP_MILLISECONDS = 30_000


def follow(endpoint: str) -> None:
    """Prints what the functions log from now on, each line after its function's name."""
    client = aws.create_client("logs", endpoint)
    begun = read_clock()
    printed: Counter[tuple[str, ...]] = Counter()
    print("Following the logs of all functions; Ctrl-C ends it.", flush=True)
    while True:
        found: Counter[tuple[str, ...]] = Counter()
        for group, event in _read_all_groups(client, max(begun, read_clock() - OVERLAP_MILLISECONDS)):
            # Not every emulator gives its events an id; equal ones are told apart by their number.
            key = (group, event["logStreamName"], str(event["timestamp"]), event["message"])
            found[key] += 1
            if found[key] > printed[key]:
                _print_event(group.removeprefix(LOG_GROUP_PREFIX), event)
        printed = found
        time.sleep(POLL_INTERVAL_SECONDS)


def read_lines(endpoint: str, function: str, since: int) -> list[str]:
    """What one function has logged since then (milliseconds)."""
    found = _read_events(aws.create_client("logs", endpoint), LOG_GROUP_PREFIX + function, since)
    return [line for event in found for line in _split_lines(event)]


def read_clock() -> int:
    """The time as CloudWatch Logs has it, in milliseconds."""
    return int(time.time() * 1000)


def _read_all_groups(client: Any, since: int) -> Iterator[tuple[str, dict[str, Any]]]:
    pages = client.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=LOG_GROUP_PREFIX)
    for group in [group["logGroupName"] for page in pages for group in page["logGroups"]]:
        for event in _read_events(client, group, since):
            yield group, event


def _read_events(client: Any, group: str, since: int) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
    for page in pages:
        yield from page["events"]


def _print_event(function: str, event: dict[str, Any]) -> None:
    for line in _split_lines(event):
        print(f"{function:<22} | {line}", flush=True)


def _split_lines(event: dict[str, Any]) -> list[str]:
    message: str = event["message"]
    # An empty message is an empty line, of a mail for example.
    return message.splitlines() or [""]
