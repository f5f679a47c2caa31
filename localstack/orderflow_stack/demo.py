"""`demo`: creates a product, orders five of it, and watches the order until its mails are out. Where orders are paid it
plays three: one is paid, one is not and expires, one is paid and then cancelled.

In: an emulator with the deployed stack. Out: each call and its answer on the screen, as `curl` would show them.
Guarantees: an answer that is not the expected one, or does not come in time, ends it with a `StackError`.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from orderflow_stack import aws, logs
from orderflow_stack.api_call import OF_EMULATOR, ApiAnswer, ApiCall
from orderflow_stack.deployed_stack import DeployedStack, describe_stack
from orderflow_stack.emulator import Emulator
from orderflow_stack.errors import StackError
from orderflow_stack.function_versions import ALIAS
from orderflow_stack.storefront.server import StorefrontServer
from orderflow_stack.stripe.checkout import list_calls

PRODUCT = {"name": "Test Laptop", "price": 1000, "stock": 50, "category": "electronics"}
CUSTOMER = "test@example.com"
QUANTITY = 5
STOCK_AFTER = "45"
# While another order of as much has not ended.
STOCK_MEANWHILE = "40"
TOTAL = "5000.00"
# One mail says that the order came in, the other that it is confirmed; where it is paid, one that it is to be.
MAILS_OF_AN_ORDER = 2
MAILS_OF_A_PAID_ORDER = 3
MAIL_BEGINS = "📧 EMAIL NOTIFICATION (Console Mode)"
WAIT_TIMEOUT_SECONDS = 60
POLL_INTERVAL_SECONDS = 0.2


def run_demo(emulator: Emulator, storefront: StorefrontServer) -> None:
    begun = logs.read_clock()
    stack = describe_stack(emulator)
    url = stack.api_url
    is_paid = stack.parameters["Payments"] == "stripe"

    _print_title(1, "An administrator creates a product: 50 pieces at 1000")
    product = _send(ApiCall("POST", f"{url}/products", PRODUCT, signer=OF_EMULATOR), HTTPStatus.CREATED)

    _print_title(2, f"A customer orders {QUANTITY} of it")
    items = [{"product_id": product["id"], "quantity": QUANTITY}]
    order = _send(
        ApiCall("POST", f"{url}/orders", {"customer_email": CUSTOMER, "items": items}),
        HTTPStatus.CREATED,
    )
    _expect("status", order["status"], "pending")
    _expect("total_price", order["total_price"], TOTAL)
    _print_indented("Whoever has the order_token may cancel the order, and sees its customer's address.")

    _print_title(3, "product-consumer takes OrderCreated from its queue and reserves the stock")
    _wait_for_field(ApiCall("GET", f"{url}/products/{product['id']}"), "stock", STOCK_AFTER)

    by_id = ApiCall("GET", f"{url}/orders/{order['id']}")
    if is_paid:
        _pay(by_id, order["order_token"], stack.parameters["StripeEndpoint"])
        confirmed, mailed = 6, 7
        _print_title(
            confirmed, "Stripe tells payment-api, and order-consumer takes PaymentSucceeded and confirms the order"
        )
    else:
        confirmed, mailed = 4, 5
        _print_title(confirmed, "order-consumer takes StockReserved from its queue and confirms the order")
    _wait_for_field(by_id, "status", "confirmed")

    _print_title(mailed, "notification-consumer mails the customer")
    if stack.parameters["MailMode"] == "console":
        _show_mails(emulator, order["id"], begun, MAILS_OF_A_PAID_ORDER if is_paid else MAILS_OF_AN_ORDER)
    else:
        _print_indented("In mode ses mails are not logged. This shows what was sent:")
        _print_indented(f"$ {ApiCall('GET', emulator.mails_url).format_curl_command()}")
    if is_paid:
        _play_expiry(emulator, stack, items)
        _play_refund(stack, items)
    page = storefront.url if storefront.is_running() else None
    _explain_next_steps(emulator, url, order["id"], page)


def _pay(order: ApiCall, token: str, stripe: str) -> None:
    _print_title(4, "order-consumer takes StockReserved, and payment-consumer asks Stripe for the payment")
    _wait_for_field(order, "status", "awaiting_payment")
    payment = ApiCall("GET", f"{order.url}/payment", headers={"order-token": token})
    _wait_for_field(payment, "status", "open")

    _print_title(5, "The customer's browser pays with it at Stripe, by card")
    for call in list_calls(stripe, payment.send()["client_secret"]):
        _print_indented(f"$ {call.format_curl_command()}")
        _print_indented(call.send())


def _play_expiry(emulator: Emulator, stack: DeployedStack, items: list[dict[str, object]]) -> None:
    """The second order, which nobody pays."""
    _print_title(8, "A second customer orders as much, and does not pay")
    order, payment = _order_to_be_paid(stack, items)
    minutes = stack.parameters["ReservationMinutes"]
    _print_indented(f"The goods are set aside for {minutes} minutes: on AWS it takes so long until the order expires.")
    _print_indented("The demo does not wait: twice it sets the order's payment_next_at in the orders table to a moment")
    _print_indented("in the past, and invokes the relay, which by itself looks each minute.")
    _print_indented("Now half of the time is over: the customer is reminded.")
    _pass_time(emulator, stack, order["id"])
    # Only then: a relay that still makes the reminder would set the time to pay back to what it was.
    _wait_for_event(stack, order["id"], "OrderPaymentReminder")
    _print_indented("Now all of it is over: payment-consumer cancels the payment at Stripe.")
    _pass_time(emulator, stack, order["id"])
    _wait_for_field(ApiCall("GET", f"{stack.api_url}/orders/{order['id']}"), "status", "expired")
    _wait_for_field(payment, "status", "cancelled")
    _wait_for_field(_product_of(stack, items), "stock", STOCK_AFTER)


def _play_refund(stack: DeployedStack, items: list[dict[str, object]]) -> None:
    """The third order, which is paid and then cancelled."""
    _print_title(9, "A third customer orders, pays, and cancels the order: the money goes back, and so do the goods")
    order, payment = _order_to_be_paid(stack, items)
    for call in list_calls(stack.parameters["StripeEndpoint"], payment.send()["client_secret"]):
        call.send()
    by_id = ApiCall("GET", f"{stack.api_url}/orders/{order['id']}")
    _wait_for_field(by_id, "status", "confirmed")
    token = {"order-token": order["order_token"]}
    _send(ApiCall("POST", f"{by_id.url}/cancel", headers=token), HTTPStatus.OK)
    _wait_for_field(payment, "status", "refunded")
    _wait_for_field(_product_of(stack, items), "stock", STOCK_AFTER)


def _order_to_be_paid(stack: DeployedStack, items: list[dict[str, object]]) -> tuple[ApiAnswer, ApiCall]:
    """The order, and what shows its payment, which is open."""
    body = {"customer_email": CUSTOMER, "items": items}
    order = _send(ApiCall("POST", f"{stack.api_url}/orders", body), HTTPStatus.CREATED)
    token = {"order-token": order["order_token"]}
    payment = ApiCall("GET", f"{stack.api_url}/orders/{order['id']}/payment", headers=token)
    _wait_for_field(_product_of(stack, items), "stock", STOCK_MEANWHILE)
    _wait_for_field(payment, "status", "open")
    return order, payment


def _pass_time(emulator: Emulator, stack: DeployedStack, order_id: str) -> None:
    """What is next for an order that awaits payment is due now, and the relay does it."""
    orders = aws.create_client("dynamodb", emulator.url)
    try:
        orders.update_item(
            TableName=stack.outputs["OrdersTable"],
            Key={"order_id": {"S": order_id}},
            UpdateExpression="SET payment_next_at = :past",
            ConditionExpression="attribute_exists(payment_next_at)",
            ExpressionAttributeValues={":past": {"S": "2020-01-01T00:00:00.000Z"}},
        )
    except orders.exceptions.ConditionalCheckFailedException:
        raise StackError(f"order {order_id} does not await its payment") from None
    answer = aws.create_client("lambda", emulator.url).invoke(
        FunctionName=stack.outputs["RelayFunction"], Qualifier=ALIAS
    )
    if "FunctionError" in answer:
        raise StackError(f"the relay fails: {answer['Payload'].read().decode(errors='replace')}")


def _product_of(stack: DeployedStack, items: list[dict[str, object]]) -> ApiCall:
    return ApiCall("GET", f"{stack.api_url}/products/{items[0]['product_id']}")


def _send(call: ApiCall, expected: HTTPStatus) -> ApiAnswer:
    """Shows the call and its answer."""
    _print_indented(f"$ {call.format_curl_command()}")
    answer = call.send()
    _print_answer(answer)
    _expect("HTTP status", answer.status, int(expected))
    return answer


def _print_answer(answer: ApiAnswer) -> None:
    _print_indented(f"{answer.status} {HTTPStatus(answer.status).phrase}")
    _print_indented(answer.body)


def _wait_for_field(call: ApiCall, field: str, expected: str) -> None:
    _print_indented(f"Waiting for {field} to become {expected} (at most {WAIT_TIMEOUT_SECONDS} s) ...")
    answer = call.send()

    def has_arrived() -> bool:
        nonlocal answer
        answer = call.send()
        return bool(answer.status == HTTPStatus.OK and answer[field] == expected)

    seconds = _wait_until(has_arrived, lambda: f"{field} is not {expected}: {answer.status} {answer.body}")
    _print_indented(f"It has, after {seconds:.1f} s:")
    _print_indented(f"$ {call.format_curl_command()}")
    _print_answer(answer)


def _wait_for_event(stack: DeployedStack, order_id: str, expected: str) -> None:
    """Shows of the order's events their types only."""
    call = ApiCall("GET", f"{stack.api_url}/orders/{order_id}/events", signer=OF_EMULATOR)
    types: list[str] = []

    def has_arrived() -> bool:
        answer = call.send()
        _expect("HTTP status", answer.status, int(HTTPStatus.OK))
        types[:] = [event["event_type"] for event in answer["events"]]
        return expected in types

    seconds = _wait_until(has_arrived, lambda: f"the order has no {expected}: {', '.join(types)}")
    _print_indented(f"$ {call.format_curl_command()}")
    _print_indented(f"Its events, after {seconds:.1f} s: {', '.join(types)}")


def _show_mails(emulator: Emulator, order_id: str, since: int, number: int) -> None:
    _print_indented(f"Waiting for its log to show the mail (at most {WAIT_TIMEOUT_SECONDS} s) ...")
    mails: list[str] = []

    def have_arrived() -> bool:
        logged = logs.read_lines(emulator.url, "notification-consumer", since)
        mails[:] = [mail for mail in _extract_mails(logged) if order_id in mail]
        return len(mails) >= number

    _wait_until(
        have_arrived,
        lambda: f"{len(mails)} of {number} mails about order {order_id} in the log (`make logs`)",
    )
    for mail in mails:
        _print_indented(mail)
        _print_indented("")


def _extract_mails(logged: list[str]) -> list[str]:
    """The mails among the lines of a log: from the line that begins one to the next line of the log proper, which is
    JSON or the runtime's."""
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


def _wait_until(condition: Callable[[], bool], describe_failure: Callable[[], str]) -> float:
    """Returns how many seconds it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > WAIT_TIMEOUT_SECONDS:
            raise StackError(f"after {WAIT_TIMEOUT_SECONDS} s {describe_failure()}")
        time.sleep(POLL_INTERVAL_SECONDS)
    return time.monotonic() - begun


def _expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise StackError(f"{what} should be {expected} and is {actual}")


def _explain_next_steps(emulator: Emulator, url: str, order_id: str, storefront: str | None) -> None:
    admin = ApiCall("GET", f"{url}/products", signer=OF_EMULATOR)
    print(
        f"""
Everything went as it should. The stack is left running:
`make logs` follows it, `make down` stops it.

The API:   {url}
           {ApiCall("GET", f"{url}/orders/{order_id}").format_curl_command()}
As admin:  {admin.format_curl_command()}
{emulator.name}: {emulator.url}"""
    )
    if storefront:
        print(f"""
The whole as a customer sees it, products, an order and its live status: open {storefront}/""")


def _print_title(number: int, text: str) -> None:
    print(f"\n{number}. {text}", flush=True)


def _print_indented(text: str) -> None:
    for line in text.splitlines() or [""]:
        print(f"   {line}", flush=True)
