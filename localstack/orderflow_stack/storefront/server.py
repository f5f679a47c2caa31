"""The server of the example storefront, as a process of a stack.

In: the directory of a stack (`State`). Out: a server that answers, and the record of where it is (`storefront.json`),
by which later commands find and stop it.
Guarantees: it listens on 127.0.0.1; it keeps its port while the stack runs, because the API is called by pages of this
origin alone. Works with the standard library alone, because `down` must.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.ports import HOST, build_url, claim_port, is_in_use
from orderflow_stack.process_lock import is_held
from orderflow_stack.state import State

FOLDER = REPOSITORY / "examples" / "storefront"
DEFAULT_PORT = 8080
START_TIMEOUT_SECONDS = 10
STOP_TIMEOUT_SECONDS = 5
POLL_INTERVAL_SECONDS = 0.05


class StorefrontServer:
    """A process of `orderflow_stack.storefront.pages`."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = state.directory / "storefront.log"

    @property
    def url(self) -> str:
        """The origin of its pages: no slash at the end."""
        return build_url(self.state.read("storefront")["port"])

    def is_running(self) -> bool:
        return is_held(self._lock_file())

    def ensure_started(self, any_port: bool) -> None:
        """At its port of the last time, or at 8080 if that is free, or at any."""
        if self.is_running():
            return
        wanted = self.state.read("storefront").get("port", DEFAULT_PORT)
        with (
            claim_port(0 if any_port or is_in_use(wanted) else wanted, None) as port,
            self.log.open("wb") as log,
            self._lock_file().open("a") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "orderflow_stack.storefront.pages"),
                    *(str(FOLDER), str(self.state.env_file), HOST, str(port)),
                ],
                # By its directory a process is known as the stack's.
                cwd=self.state.directory,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C here is not for it.
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            self.state.write("storefront", {"pid": process.pid, "port": port})
            self._wait_until_it_listens(process, port)

    def stop(self) -> None:
        if self.is_running():
            pid = self.state.read("storefront").get("pid")
            if pid is None:
                raise StackError("a storefront of this stack is served, but its process id was not recorded")
            for kind in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
                if self._has_ended():
                    break
        self.state.forget("storefront")

    def _has_ended(self) -> bool:
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL_SECONDS)
        return True

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not is_in_use(port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise StackError(f"the storefront is not served; its log is {self.log}")
            time.sleep(POLL_INTERVAL_SECONDS)

    def _lock_file(self) -> Path:
        return self.state.directory / "storefront.lock"
