"""`demo`: creates a product, orders five of it, and watches the order until its mail is out."""

import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from orderflow_stack import deployment, logs
from orderflow_stack.emulator import CREDENTIALS, REGION, Emulator
from orderflow_stack.errors import StackError

PRODUCT = {"name": "Test Laptop", "price": 1000, "stock": 50, "category": "electronics"}
CUSTOMER = "test@example.com"
QUANTITY = 5
STOCK_AFTER = "45"
TOTAL = "5000.00"
MAIL_BEGINS = "📧 EMAIL NOTIFICATION (Console Mode)"
WAIT_SECONDS = 60
KEY, SECRET = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]


@dataclass
class Answer:
    """What came back. Numbers stay text, so that 5000.00 is not mistaken for 5000."""

    status: int
    body: str

    def __getitem__(self, field: str) -> Any:
        value = json.loads(self.body, parse_float=str, parse_int=str)
        if not isinstance(value, dict) or field not in value:
            raise StackError(f"the answer has no {field}: {self.status} {self.body}")
        return value[field]


@dataclass
class Call:
    """One call of the API."""

    method: str
    url: str
    body: dict[str, Any] | None = None
    signed: bool = False

    def send(self) -> Answer:
        request = urllib.request.Request(
            self.url, data=self._data(), headers=self._headers(), method=self.method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode())

    def curl(self) -> str:
        """The command that does the same."""
        words = ["curl", "-sS"]
        if self.method != "GET":
            words += ["-X", self.method]
        words += [shlex.quote(self.url)]
        if self.signed:
            words += ["--aws-sigv4", f'"aws:amz:{REGION}:execute-api"', "--user", f"{KEY}:{SECRET}"]
        if self.body is not None:
            words += [
                "-H",
                "'content-type: application/json'",
                "-d",
                shlex.quote(json.dumps(self.body)),
            ]
        return " ".join(words)

    def _data(self) -> bytes | None:
        return None if self.body is None else json.dumps(self.body).encode()

    def _headers(self) -> dict[str, str]:
        headers = {} if self.body is None else {"content-type": "application/json"}
        if not self.signed:
            return headers
        request = AWSRequest(self.method, self.url, headers=headers, data=self._data())
        SigV4Auth(Credentials(KEY, SECRET), "execute-api", REGION).add_auth(request)
        return dict(request.headers)


def play(emulator: Emulator) -> None:
    begun = logs.now()
    stack = deployment.describe(emulator)
    url = deployment.api_url(emulator, stack)

    _title(1, "An administrator creates a product: 50 pieces at 1000")
    product = _do(Call("POST", f"{url}/products", PRODUCT, signed=True), HTTPStatus.CREATED)

    _title(2, f"A customer orders {QUANTITY} of it")
    items = [{"product_id": product["id"], "quantity": QUANTITY}]
    order = _do(
        Call("POST", f"{url}/orders", {"customer_email": CUSTOMER, "items": items}),
        HTTPStatus.CREATED,
    )
    _expect("status", order["status"], "pending")
    _expect("total_price", order["total_price"], TOTAL)

    _title(3, "product-consumer takes OrderCreated from its queue and reserves the stock")
    _wait_for(Call("GET", f"{url}/products/{product['id']}"), "stock", STOCK_AFTER)

    _title(4, "order-consumer takes StockReserved from its queue and confirms the order")
    _wait_for(Call("GET", f"{url}/orders/{order['id']}"), "status", "confirmed")

    _title(5, "notification-consumer mails the customer")
    if stack["parameters"]["MailMode"] == "console":
        _show_mails(emulator, order["id"], begun)
    else:
        _say("In mode ses mails are not logged. This shows what was sent:")
        _say(f"$ {Call('GET', emulator.mails_url()).curl()}")
    _explain(emulator, url, order["id"])


def _do(call: Call, expected: HTTPStatus) -> Answer:
    answer = _show(call)
    _expect("HTTP status", answer.status, int(expected))
    return answer


def _show(call: Call) -> Answer:
    _say(f"$ {call.curl()}")
    answer = call.send()
    _print_answer(answer)
    return answer


def _print_answer(answer: Answer) -> None:
    _say(f"{answer.status} {HTTPStatus(answer.status).phrase}")
    _say(answer.body)


def _wait_for(call: Call, field: str, expected: str) -> None:
    _say(f"Waiting for {field} to become {expected} (at most {WAIT_SECONDS} s) ...")
    answer = call.send()

    def arrived() -> bool:
        nonlocal answer
        answer = call.send()
        return answer.status == HTTPStatus.OK and answer[field] == expected

    seconds = _until(arrived, lambda: f"{field} is not {expected}: {answer.status} {answer.body}")
    _say(f"It has, after {seconds:.1f} s:")
    _say(f"$ {call.curl()}")
    _print_answer(answer)


def _show_mails(emulator: Emulator, order_id: str, since: int) -> None:
    _say(f"Waiting for its log to show the mail (at most {WAIT_SECONDS} s) ...")
    mails: list[str] = []

    def arrived() -> bool:
        logged = logs.lines(emulator.url, "notification-consumer", since)
        # One mail says that the order came in, the other that it is confirmed.
        mails[:] = [mail for mail in _mails(logged) if order_id in mail]
        return len(mails) >= 2

    _until(
        arrived, lambda: f"{len(mails)} of 2 mails about order {order_id} in the log (`make logs`)"
    )
    for mail in mails:
        _say(mail)
        _say("")


def _mails(logged: list[str]) -> list[str]:
    """The mails among the lines of a log: from the line that begins one to the next line of the log
    proper, which is JSON or the runtime's."""
    mails: list[list[str]] = []
    inside = False
    for line in logged:
        if line.startswith(MAIL_BEGINS):
            mails.append([])
            inside = True
        elif line.startswith(("{", "START ", "END ", "REPORT ")):
            inside = False
        if inside:
            mails[-1].append(line)
    return ["\n".join(mail).rstrip() for mail in mails]


def _until(arrived: Callable[[], bool], complaint: Callable[[], str]) -> float:
    begun = time.monotonic()
    while not arrived():
        if time.monotonic() - begun > WAIT_SECONDS:
            raise StackError(f"after {WAIT_SECONDS} s {complaint()}")
        time.sleep(0.2)
    return time.monotonic() - begun


def _expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise StackError(f"{what} should be {expected} and is {actual}")


def _explain(emulator: Emulator, url: str, order_id: str) -> None:
    admin = Call("GET", f"{url}/products", signed=True)
    print(
        f"""
Everything went as it should. The stack is left running:
`make logs` follows it, `make down` stops it.

The API:   {url}
           {Call("GET", f"{url}/orders/{order_id}").curl()}
As admin:  {admin.curl()}
{emulator.name}: {emulator.url}"""
    )


def _title(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def _say(text: str) -> None:
    for line in text.splitlines() or [""]:
        print(f"   {line}", flush=True)
