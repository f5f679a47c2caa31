"""The process that serves examples/storefront, with a config.js that says where the stack is.

    python3 -m orderflow_stack.storefront.pages FOLDER STACK_ENV HOST PORT

In: a folder, and the settings file of a stack. Out: the folder's files over HTTP. Guarantees: each time that a page is
opened it is told of the stack as it is then; nothing is served that is not in the folder. A shop would have its pages
from a CDN, and its config.js written once.
"""

import http.server
import json
import re
import sys
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from orderflow_stack.errors import StackError
from orderflow_stack.stripe.checkout import list_calls

CONFIG_PATH = "/config.js"
# What Stripe.js would do in the page: pays the PaymentIntent of a client secret by Stripe's card for tests.
TEST_CARD_PATH = "/test-card"
CLIENT_SECRET = re.compile(r"pi_\w{1,100}_secret_\w{1,100}")
CLIENT_SECRET_BYTES_MAX = 256


def build_config(settings: dict[str, str]) -> str:
    """What `config.js` of the folder says of a shop, of this stack."""
    stripe = settings.get("STRIPE_ENDPOINT")
    config = {
        "api": settings["API_URL"],
        "live": settings.get("LIVE_UPDATES_URL", ""),
        # localstripe's own Stripe.js pays with no card.
        "stripe": {"testCard": TEST_CARD_PATH} if stripe else None,
    }
    return f"window.STOREFRONT = {json.dumps(config)};\n"


def read_settings(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines())
    return {key: value for key, equals, value in pairs if equals}


class PagesHandler(http.server.SimpleHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, settings_file: Path, **options: object) -> None:
        self.settings_file = settings_file
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if urlsplit(self.path).path != CONFIG_PATH:
            super().do_GET()
            return
        try:
            body = build_config(read_settings(self.settings_file)).encode()
        except (OSError, KeyError):
            self.send_error(503, "The stack is not running")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        secret = self.rfile.read(min(length, CLIENT_SECRET_BYTES_MAX)).decode(errors="replace")
        stripe = read_settings(self.settings_file).get("STRIPE_ENDPOINT")
        if self.path != TEST_CARD_PATH or not stripe or not CLIENT_SECRET.fullmatch(secret):
            self.send_error(404)
            return
        try:
            for call in list_calls(stripe, secret):
                call.send()
        except StackError as error:
            self.log_error("%s", error)
            self.send_error(402)
            return
        self.send_response(204)
        self.end_headers()

    def end_headers(self) -> None:
        # Whoever changes a file sees it.
        self.send_header("Cache-Control", "no-store")
        super().end_headers()


def main() -> None:
    folder, settings_file, host, port = sys.argv[1:]
    handler = partial(PagesHandler, directory=folder, settings_file=Path(settings_file))
    with http.server.ThreadingHTTPServer((host, int(port)), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
