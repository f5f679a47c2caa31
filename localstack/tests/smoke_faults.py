"""Tests that `smoke` finds what is wrong with a shop, and withdraws its product all the same.

    python3 localstack/tests/smoke_faults.py

In: nothing. Out: exit status 1 at the first fault that it does not find. It needs no stack: the shop is a made one,
which answers on 127.0.0.1 and has at most one fault.
"""

import contextlib
import io
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.virtual_environment import enter_stack_environment

# What `smoke` has to find, and what it says then.
FAULTS = {
    "no order is settled": "in vain for the order to become",
    "a repeated request places a second order": "has placed two orders",
    "no stock is taken": "in vain for the stock to be taken",
    "no stock is given back": "in vain for the stock to be given back",
    "no order is placed": "should be 201 and is 503",
    "an order has no history": "should be 200 and is 500",
    "no order is cancelled": "should be 200 and is 409",
}


class MadeShop(ThreadingHTTPServer):
    """One product, and one order of all of it."""

    def __init__(self, fault: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.orders = 0
        self.is_cancelled = False
        self.is_withdrawn = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, method: str, path: str) -> tuple[int, dict[str, object]]:
        match method, path:
            case "GET", "/openapi.json":
                return 200, {}
            case "POST", "/products":
                return 201, {"id": "p1"}
            case "PATCH", "/products/p1":
                self.is_withdrawn = True
                return 200, {}
            case "GET", "/products/p1":
                return 200, {"stock": self.read_stock()}
            case "POST", "/orders":
                return self.place()
            case "GET", "/orders/o1":
                return 200, {"status": "pending" if self.fault == "no order is settled" else "confirmed"}
            case "GET", "/orders/o1/events":
                return 500 if self.fault == "an order has no history" else 200, {}
            case "POST", "/orders/o1/cancel":
                self.is_cancelled = True
                return 409 if self.fault == "no order is cancelled" else 200, {}
        return 404, {}

    def place(self) -> tuple[int, dict[str, object]]:
        if self.fault == "a repeated request places a second order" or self.orders == 0:
            self.orders += 1
        status = 503 if self.fault == "no order is placed" else 201
        return status, {"id": f"o{self.orders}", "order_token": "t"}

    def read_stock(self) -> int:
        is_back = self.is_cancelled and self.fault != "no stock is given back"
        return 2 if is_back or self.fault == "no stock is taken" else 0


class Handler(BaseHTTPRequestHandler):
    """Hands each call to its shop."""

    server: MadeShop

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, fields = self.server.answer(self.command, self.path)
        body = json.dumps(fields).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: `smoke` shows each call."""


def run_smoke(fault: str | None) -> str | None:
    """What it says is wrong with a shop that has this fault."""
    # Not at the top: only the stack's environment has for certain what it needs.
    from orderflow_stack import smoke
    from orderflow_stack.errors import StackError

    # A made shop answers as it should at once, or never.
    smoke.WAIT_TIMEOUT_SECONDS = 1
    said = None
    with MadeShop(fault) as shop, contextlib.redirect_stdout(io.StringIO()):
        Thread(target=shop.serve_forever, daemon=True).start()
        try:
            smoke.run(shop.url, "smoke@example.com", "us-east-1")
        except StackError as error:
            said = str(error)
        shop.shutdown()
    if not shop.is_withdrawn:
        sys.exit(f"error: {fault}: the product is still for sale")
    return said


def main() -> None:
    enter_stack_environment()
    os.environ.update({"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})
    if (said := run_smoke(None)) is not None:
        sys.exit(f"error: smoke finds a fault where there is none: {said}")
    for fault, wanted in FAULTS.items():
        said = run_smoke(fault)
        if wanted not in (said or ""):
            sys.exit(f"error: smoke does not find that {fault}: wanted {wanted!r}, got {said!r}")
        print(f"ok: smoke finds that {fault}", flush=True)


if __name__ == "__main__":
    main()
