"""Tags orders that look like fraud: a subscriber of Orderflow's events that shares no code with it.

In: OrderCreated from a queue of its own (template.yaml beside this), and what docs/asyncapi.yaml says of it. Out: the tag
`suspicious` on an order, by `PUT /orders/{id}/tags`, which an administrator may call. Guarantees: an event is gone from the
queue once its order is tagged, or needs no tag; what comes twice is tagged once; what cannot be read, and what fails again and
again, goes to the queue's DLQ. Nothing here decides what becomes of an order.

    QUEUE_URL=... API_URL=... ASYNCAPI=docs/asyncapi.yaml python3 fraud_score.py
"""

import json
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any

import boto3
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from jsonschema import Draft202012Validator

TAG = "suspicious"
SUSPICIOUS_SCORE = 50
# As long as SQS lets a receive wait, unless said otherwise: an idle queue costs three calls a minute.
WAIT_SECONDS = int(os.environ.get("WAIT_SECONDS", "20"))
MESSAGES_MAX = 10
CALL_TIMEOUT_SECONDS = 10


def score(order: dict[str, Any]) -> int:
    """From 0 (an order like others) to 100."""
    total = Decimal(str(order["total_price"]))
    pieces = sum(line["quantity"] for line in order["items"])
    return (60 if total >= 10_000 else 0) + (40 if pieces >= 100 else 10 if pieces >= 20 else 0)


class Contract:
    """What events are, as the shop has published it: this, and not its code, is what is relied on."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._messages = description["components"]["messages"]
        self._description = description

    def check(self, event: Any) -> str | None:
        """What is wrong with an event; None if nothing is."""
        name = event.get("event_type") if isinstance(event, dict) else None
        if name not in self._messages:
            return f"there is no event {name!r}"
        schema = {**self._description, "$ref": f"#/components/messages/{name}/payload"}
        error = next(Draft202012Validator(schema).iter_errors(event), None)
        return None if error is None else f"{error.json_path}: {error.message}"


class Tags:
    """The tags of orders, behind the shop's API."""

    def __init__(self, api_url: str, session: boto3.Session) -> None:
        self._api_url, self._session = api_url.rstrip("/"), session
        # An API on AWS says itself where it is.
        of_url = re.search(r"\.execute-api\.([a-z0-9-]+)\.", api_url)
        self._region = of_url[1] if of_url else session.region_name

    def add(self, order_id: str, tag: str) -> None:
        tags = set(self._call("GET", f"/admin/orders/{order_id}")["tags"])
        if tag not in tags:
            self._call("PUT", f"/orders/{order_id}/tags", {"tags": sorted(tags | {tag})})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        request = AWSRequest(method, self._api_url + path, headers=headers, data=data)
        SigV4Auth(self._session.get_credentials(), "execute-api", self._region).add_auth(request)
        call = urllib.request.Request(request.url, data=data, headers=dict(request.headers), method=method)
        with urllib.request.urlopen(call, timeout=CALL_TIMEOUT_SECONDS) as answer:
            return json.load(answer)


def handle(body: str, contract: Contract, tags: Tags) -> str:
    """Does what one message asks for, and says what that was. An exception leaves it on the queue."""
    event = json.loads(body)
    if wrong := contract.check(event):
        raise ValueError(wrong)
    order = event["data"]
    points = score(order)
    if points >= SUSPICIOUS_SCORE:
        tags.add(order["order_id"], TAG)
    return f"order {order['order_id']}: {points} points"


def main() -> None:
    with open(os.environ["ASYNCAPI"]) as description:
        contract = Contract(yaml.safe_load(description))
    session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
    queue, sqs = os.environ["QUEUE_URL"], session.client("sqs")
    tags = Tags(os.environ["API_URL"], session)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"waiting for orders on {queue}", flush=True)
    while True:
        received = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=MESSAGES_MAX, WaitTimeSeconds=WAIT_SECONDS
        )
        for message in received.get("Messages", []):
            try:
                print(handle(message["Body"], contract, tags), flush=True)
            except (ValueError, KeyError, urllib.error.URLError, TimeoutError) as error:
                # It comes again when its visibility timeout is over, and after some times it is SQS that moves it to the DLQ.
                print(f"message {message['MessageId']} failed: {error}", flush=True)
            else:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
