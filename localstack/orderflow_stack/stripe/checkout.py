"""What a customer's browser does at Stripe to pay by card, as calls that can be sent and shown.

In: where Stripe is, and the client secret of a payment. Out: the calls, in their order; each takes what the one before
it was answered with.
"""

import json
import shlex
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

from orderflow_stack.errors import StackError
from orderflow_stack.stripe.server import API_KEY

TIMEOUT_SECONDS = 30
# Stripe's number for tests, which is charged.
CARD = {
    "type": "card",
    "card[number]": "4242424242424242",
    "card[exp_month]": "12",
    "card[exp_year]": "2040",
    "card[cvc]": "123",
}


@dataclass
class StripeCall:
    """A form to send."""

    url: str
    form: dict[str, str]
    answer: dict[str, str] = field(default_factory=dict)

    def send(self) -> str:
        """The status of what it is about, in a few words."""
        data = urllib.parse.urlencode(self.form).encode()
        request = urllib.request.Request(self.url, data=data, headers={"authorization": f"Bearer {API_KEY}"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                self.answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise StackError(f"Stripe answers {error.code} {error.read().decode(errors='replace')}") from None
        return f"{self.answer['id']} {self.answer.get('status', '')}".rstrip()

    def format_curl_command(self) -> str:
        words = ["curl", "-sS", "-X", "POST", shlex.quote(self.url), "-H", f"'authorization: Bearer {API_KEY}'"]
        for name, value in self.form.items():
            words += ["-d", shlex.quote(f"{name}={value}")]
        return " ".join(words)


def list_calls(stripe: str, client_secret: str) -> Iterator[StripeCall]:
    """Each is made when the one before it has been sent."""
    intent = f"{stripe}/v1/payment_intents/{client_secret.split('_secret_')[0]}"
    method = StripeCall(f"{stripe}/v1/payment_methods", CARD)
    yield method
    yield StripeCall(intent, {"payment_method": method.answer["id"]})
    yield StripeCall(f"{intent}/confirm", {})
