"""localstripe, a server of Stripe's protocol from PyPI, as a process of a stack whose orders are paid.

In: the directory of a stack (`State`). Out: a server that answers, and the record of where it is (`stripe.json`), by
which later commands find and stop it.
Guarantees: it listens on 127.0.0.1 and writes into the stack's state directory only; its data is in memory. No other
process is ever taken for it. Works with the standard library alone, because `down` must.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import CACHE_DIRECTORY, REPOSITORY
from orderflow_stack.ports import HOST, build_url, claim_port
from orderflow_stack.process_lock import is_held
from orderflow_stack.state import State
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

# What the stack's secret says. localstripe takes every key of more than five characters.
API_KEY = "sk_test_orderflow"
WEBHOOK_SECRET = "whsec_orderflow"
START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 5
ANSWER_TIMEOUT_SECONDS = 5
POLL_INTERVAL_SECONDS = 0.05
LOG_TAIL_LINES = 20

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


class StripeServer:
    """A `localstripe` process."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = state.directory / "stripe.log"

    @property
    def url(self) -> str:
        """No slash at the end."""
        return build_url(self.state.read("stripe")["port"])

    def is_running(self) -> bool:
        return is_held(self._lock_file())

    def ensure_started(self, port: int = 0) -> None:
        """At this port, or at any."""
        if self.is_running():
            return
        LOCALSTRIPE_ENVIRONMENT.install_if_outdated(find_base_python())
        with claim_port(port, None) as port, self.log.open("wb") as log, self._lock_file().open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = subprocess.Popen(
                [str(LOCALSTRIPE_ENVIRONMENT.program("python")), "-c", PROGRAM, HOST, str(port)],
                # By its directory a process is known as the stack's.
                cwd=self.state.directory,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.state.tmp)}
                | {"TMPDIR": str(self.state.tmp), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C here is not for it.
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            self.state.write("stripe", {"pid": process.pid, "port": port})
            self._wait_until_it_answers(process)

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

    def stop(self) -> None:
        if self.is_running():
            pid = self.state.read("stripe").get("pid")
            if pid is None:
                raise StackError("a localstripe of this stack runs, but its process id was not recorded")
            for kind in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
                if self._has_ended():
                    break
        self.state.forget("stripe")

    def _has_ended(self) -> bool:
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL_SECONDS)
        return True

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if process.poll() is not None:
                raise StackError(f"localstripe ended while starting:\n{self._read_log_tail()}")
            if time.monotonic() > deadline:
                process.kill()
                raise StackError(f"localstripe did not answer in {START_TIMEOUT_SECONDS} s:\n{self._read_log_tail()}")
            time.sleep(POLL_INTERVAL_SECONDS)

    def _answers(self) -> bool:
        try:
            with _direct.open(self.url, timeout=ANSWER_TIMEOUT_SECONDS):
                return True
        except urllib.error.HTTPError:
            # It asks for a key.
            return True
        except OSError:
            return False

    def _lock_file(self) -> Path:
        return self.state.directory / "stripe.lock"

    def _read_log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
