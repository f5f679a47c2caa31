"""localstripe, a server of Stripe's protocol from PyPI, as a process of a stack whose orders are paid.

In: the directory of a stack (`State`). Out: a server that answers (`background_process`).
Guarantees: it listens on 127.0.0.1 and writes into the stack's state directory only; its data is in memory. Works with
the standard library alone, because `down` must.
"""

import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from orderflow_stack.background_process import BackgroundProcess
from orderflow_stack.errors import StackError
from orderflow_stack.paths import CACHE_DIRECTORY, REPOSITORY
from orderflow_stack.ports import HOST, claim_port
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

# What the stack's secret says. localstripe takes every key of more than five characters.
API_KEY = "sk_test_orderflow"
WEBHOOK_SECRET = "whsec_orderflow"
ANSWER_TIMEOUT_SECONDS = 5

# Its own `start` listens on every interface of the machine, and keeps its data in a file in /tmp, which would be that
# of every other localstripe of this machine.
PROGRAM = """
import logging, sys
from aiohttp import web
from localstripe import resources, server
# Each call, and what became of each webhook.
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
resources.Store.dump_to_disk = lambda self: None
web.run_app(server.app, host=sys.argv[1], port=int(sys.argv[2]))
"""

# Never through a proxy: it is on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class LocalStripeEnvironment(VirtualEnvironment):
    """That of `make e2e-stripe`, which notes beside it what it has installed."""

    def _marker(self) -> Path:
        return self.directory.parent / "requirements.txt"

    def _describe_requirements(self) -> str:
        return self.requirements.read_text()


LOCALSTRIPE_ENVIRONMENT = LocalStripeEnvironment(
    CACHE_DIRECTORY / "localstripe" / "venv",
    REPOSITORY / "tests" / "e2e" / "tests" / "stripe" / "requirements.txt",
    "localstripe",
    has_hashes=False,
)


class StripeServer(BackgroundProcess):
    """A `localstripe` process."""

    name = "stripe"
    program = "localstripe"
    start_timeout_seconds = 30

    def ensure_started(self, port: int = 0) -> None:
        """At this port, or at any."""
        if self.is_running():
            return
        LOCALSTRIPE_ENVIRONMENT.install_if_outdated(find_base_python())
        with claim_port(port, None) as port:
            command = [str(LOCALSTRIPE_ENVIRONMENT.program("python")), "-c", PROGRAM, HOST, str(port)]
            tmp = str(self.state.tmp)
            self._start(command, {"HOME": tmp, "TMPDIR": tmp, "PYTHONUNBUFFERED": "1"}, port)

    def send_webhooks_to(self, url: str) -> None:
        """Again: it sends them elsewhere."""
        form = urllib.parse.urlencode({"url": url, "secret": WEBHOOK_SECRET}).encode()
        request = urllib.request.Request(
            f"{self.url}/_config/webhooks/orderflow", data=form, headers={"Authorization": f"Bearer {API_KEY}"}
        )
        try:
            with _direct.open(request, timeout=ANSWER_TIMEOUT_SECONDS):
                pass
        except OSError as error:
            raise StackError(f"localstripe takes no webhook: {error}; its log is {self.log}") from None

    def _answers(self) -> bool:
        try:
            with _direct.open(self.url, timeout=ANSWER_TIMEOUT_SECONDS):
                return True
        except urllib.error.HTTPError:
            # It asks for a key.
            return True
        except OSError:
            return False
