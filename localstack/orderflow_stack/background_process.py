"""A server that a stack has beside its emulator, as a process that outlives the command that has started it.

In: the directory of a stack (`State`). Out: a server that answers, and the record of where it is (`NAME.json`), by
which later commands find and stop it.
Guarantees: no other process is ever taken for it; what has been started answers, or is ended. Works with the standard
library alone, because `down` must.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.ports import build_url
from orderflow_stack.process_lock import is_held
from orderflow_stack.state import State

STOP_TIMEOUT_SECONDS = 5
POLL_INTERVAL_SECONDS = 0.05
LOG_TAIL_LINES = 20


class BackgroundProcess(ABC):
    """A process that a file of the stack's names, and that holds another one locked."""

    # What its files in the stack's directory begin with.
    name: str
    # As messages call it.
    program: str
    start_timeout_seconds: float

    def __init__(self, state: State) -> None:
        self.state = state
        self.log = state.directory / f"{self.name}.log"

    @property
    def url(self) -> str:
        """No slash at the end."""
        return build_url(self.state.read(self.name)["port"])

    def is_running(self) -> bool:
        return is_held(self._lock_file())

    def stop(self) -> None:
        if self.is_running():
            pid = self.state.read(self.name).get("pid")
            if pid is None:
                raise StackError(f"a {self.program} of this stack runs, but its process id was not recorded")
            for kind in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, kind)
                if self._has_ended():
                    break
        self.state.forget(self.name)

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does what it was started for."""

    def _start(self, command: list[str], environment: dict[str, str], port: int) -> None:
        """Starts it at a port that is claimed, and waits until it answers."""
        with self.log.open("wb") as log, self._lock_file().open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = subprocess.Popen(
                command,
                # By its directory a process is known as the stack's.
                cwd=self.state.directory,
                env={"PATH": os.environ.get("PATH", os.defpath)} | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C here is not for it.
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            self.state.write(self.name, {"pid": process.pid, "port": port})
            self._wait_until_it_answers(process)

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self._answers():
            if process.poll() is not None:
                raise StackError(f"{self.program} ended while starting:\n{self._read_log_tail()}")
            if time.monotonic() > deadline:
                process.kill()
                raise StackError(
                    f"{self.program} did not answer in {self.start_timeout_seconds} s:\n{self._read_log_tail()}"
                )
            time.sleep(POLL_INTERVAL_SECONDS)

    def _has_ended(self) -> bool:
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_INTERVAL_SECONDS)
        return True

    def _lock_file(self) -> Path:
        return self.state.directory / f"{self.name}.lock"

    def _read_log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
