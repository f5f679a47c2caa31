"""`smoke`: places an order by a deployed API, watches it, cancels it, and withdraws its product.

In: the URL of an API, and the caller's AWS credentials, by which it is an administrator. Out: each call and its answer
on the screen, or a `StackError` with what is not as it should be.
Guarantees: no other order and no other product is touched; the stock that was taken is given back, and the product is
withdrawn, whatever fails; nothing is paid; secrets are not shown.
"""

import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus

import boto3

from orderflow_stack.api_call import ApiAnswer, ApiCall, Signer
from orderflow_stack.errors import StackError

PRODUCT = {"name": "Smoke test: do not order", "price": 1, "stock": 2}
QUANTITY = 2
WAIT_TIMEOUT_SECONDS = 60
POLL_INTERVAL_SECONDS = 0.5
# What an order has become once its stock is taken: confirmed, or where orders are paid, to be paid.
SETTLED = ("confirmed", "awaiting_payment")


def run(api_url: str, email: str, region: str | None) -> None:
    signer = _find_signer(api_url, region)
    begun = time.monotonic()
    _expect_status(_show(ApiCall("GET", f"{api_url}/openapi.json"), with_body=False), HTTPStatus.OK)
    created = _show(ApiCall("POST", f"{api_url}/products", PRODUCT, signer))
    if created.status == HTTPStatus.FORBIDDEN:
        raise StackError("these credentials may not administrate the shop: they need execute-api:Invoke on its API")
    _expect_status(created, HTTPStatus.CREATED)
    product = f"{api_url}/products/{created['id']}"
    try:
        _play_order(api_url, created["id"], email, signer)
    finally:
        _show(ApiCall("PATCH", product, {"active": False}, signer))
    print(f"\nEverything went as it should, in {time.monotonic() - begun:.1f} s.", flush=True)


def _play_order(api_url: str, product_id: str, email: str, signer: Signer) -> None:
    body = {"customer_email": email, "items": [{"product_id": product_id, "quantity": QUANTITY}]}
    place = ApiCall("POST", f"{api_url}/orders", body, headers={"idempotency-key": str(uuid.uuid4())})
    order = _show(place)
    _expect_status(order, HTTPStatus.CREATED)
    again = _show(place)
    if again["id"] != order["id"]:
        raise StackError(f"the same Idempotency-Key has placed two orders: {order['id']} and {again['id']}")

    by_id = ApiCall("GET", f"{api_url}/orders/{order['id']}")
    _wait_for(by_id, lambda answer: answer["status"] in SETTLED, f"the order to become {' or '.join(SETTLED)}")
    stock = ApiCall("GET", f"{api_url}/products/{product_id}")
    _wait_for(stock, lambda answer: answer["stock"] == "0", "the stock to be taken once")
    events = _show(ApiCall("GET", f"{by_id.url}/events", signer=signer))
    _expect_status(events, HTTPStatus.OK)

    cancel = ApiCall("POST", f"{by_id.url}/cancel", headers={"order-token": order["order_token"]})
    _expect_status(_show(cancel), HTTPStatus.OK)
    _wait_for(stock, lambda answer: answer["stock"] == str(QUANTITY), "the stock to be given back")


def _find_signer(api_url: str, region: str | None) -> Signer:
    session = boto3.Session(region_name=region)
    credentials = session.get_credentials()
    if credentials is None:
        raise StackError("no AWS credentials: sign in (`aws sso login`), or name a profile by AWS_PROFILE")
    frozen = credentials.get_frozen_credentials()
    # An API on AWS says itself where it is.
    of_url = re.search(r"\.execute-api\.([a-z0-9-]+)\.", api_url)
    place = of_url[1] if of_url else session.region_name
    if not place:
        raise StackError("no AWS region: name it by REGION=... or AWS_REGION")
    return Signer(frozen.access_key, frozen.secret_key, frozen.token, place, shows_credentials=False)


def _show(call: ApiCall, with_body: bool = True) -> ApiAnswer:
    print(f"\n$ {call.format_curl_command()}", flush=True)
    answer = call.send()
    print(f"{answer.status}{f' {answer.body}' if with_body else ''}", flush=True)
    return answer


def _expect_status(answer: ApiAnswer, expected: HTTPStatus) -> None:
    if answer.status != expected:
        raise StackError(f"the answer should be {int(expected)} and is {answer.status}: {answer.body}")


def _wait_for(call: ApiCall, has_arrived: Callable[[ApiAnswer], bool], subject: str) -> None:
    begun = time.monotonic()
    while (answer := call.send()).status != HTTPStatus.OK or not has_arrived(answer):
        if time.monotonic() - begun > WAIT_TIMEOUT_SECONDS:
            raise StackError(f"waited {WAIT_TIMEOUT_SECONDS} s in vain for {subject}: {answer.status} {answer.body}")
        time.sleep(POLL_INTERVAL_SECONDS)
    print(f"\n$ {call.format_curl_command()}\n{answer.status} {answer.body}", flush=True)
    print(f"({subject}: after {time.monotonic() - begun:.1f} s)", flush=True)
