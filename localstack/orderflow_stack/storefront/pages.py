"""The process that serves examples/storefront, with a config.js that says where the stack is.

    python3 -m orderflow_stack.storefront.pages FOLDER STACK_ENV HOST PORT

In: a folder, and the settings file of a stack. Out: the folder's files over HTTP. Guarantees: each time that a page is
opened it is told of the stack as it is then; nothing is served that is not in the folder. A shop would have its pages
from a CDN, and its config.js written once.
"""

import http.server
import json
import sys
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from orderflow_stack.stripe.server import API_KEY

CONFIG_PATH = "/config.js"


def build_config(settings: dict[str, str]) -> str:
    """What `config.js` of the folder says of a shop, of this stack."""
    stripe = settings.get("STRIPE_ENDPOINT")
    config = {
        "api": settings["API_URL"],
        "live": settings.get("LIVE_UPDATES_URL", ""),
        # localstripe's Stripe.js confirms no card: the page pays by Stripe's card for tests. The key is no account's.
        "stripe": {"test": stripe, "key": API_KEY} if stripe else None,
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
