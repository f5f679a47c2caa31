"""What all emulators have in common: a server process, its address, and its life from start to stop.

In: the directory of a stack (`State`) and what the command line asks of the server. Out: a server that answers, and
the record of how it was started (`server.json`), by which later commands find and stop it.
Guarantees: no other process is ever taken for the server; after `stop` none of its processes is left.
Works with the standard library alone, because `down` must.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from orderflow_stack.errors import StackError
from orderflow_stack.ports import build_url, claim_port
from orderflow_stack.process_lock import is_held
from orderflow_stack.state import State

HEALTH_TIMEOUT_SECONDS = 5
# From SIGKILL to the end of a process.
KILL_TIMEOUT_SECONDS = 5
POLL_INTERVAL_SECONDS = 0.05
LOG_TAIL_LINES = 20

# Never through a proxy: the emulator is on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Settings:
    """What a server was started with. It cannot be changed while it runs."""

    emulator: str
    port: int
    functions_endpoint: str
    server_env: dict[str, str] = field(default_factory=dict)


@dataclass
class RequestedSettings:
    """What the command line asks of the server; None and empty leave the choice."""

    emulator: str | None = None
    port: int | None = None
    functions_endpoint: str | None = None
    server_env: dict[str, str] = field(default_factory=dict)


class Emulator(ABC):
    """One emulator of AWS. Subclasses say how it is started and how its URLs look."""

    name: str
    # Answers 200 as soon as the server can be used.
    health_path: str
    # Whether the server's process only watches over containers.
    in_docker = False
    start_timeout_seconds = 60
    stop_timeout_seconds = 10
    # Whether it has WebSocket APIs, and CloudFormation's resources of them (LiveUpdates=on).
    has_websocket_apis = False
    # Whether its CloudFormation can change a stack of this template.
    can_change_stacks = True

    def __init__(self, state: State) -> None:
        self.state = state

    @abstractmethod
    def build_command(self) -> list[str]:
        """The server's command line."""

    @abstractmethod
    def build_environment(self, settings: Settings) -> dict[str, str]:
        """The server's whole environment."""

    @abstractmethod
    def build_api_url(self, api_id: str, stage: str) -> str:
        """Where the server serves a REST API; no slash at the end."""

    def build_websocket_url(self, api_id: str, stage: str) -> str:
        """Where the server serves a WebSocket API, if it has any."""
        raise StackError(f"{self.name} has no WebSocket APIs")

    @property
    @abstractmethod
    def mails_url(self) -> str:
        """Where the mails can be read that were sent through SES."""

    # Most emulators do not need the next ones, so they are not abstract, which B027 asks for.
    def install(self) -> None:  # noqa: B027
        """Before each start: installs what the server needs beyond .local/venv."""

    def choose_template_parameters(self) -> dict[str, str]:
        """Parameters of the template that this emulator needs to be different."""
        return {}

    def complete_deployment(self, outputs: dict[str, str]) -> None:  # noqa: B027
        """After each deployment: does what this emulator's CloudFormation leaves out."""

    def remove_leftovers(self) -> None:  # noqa: B027
        """After the server's end, however it came: removes what does not end with it."""

    @property
    def kind(self) -> str:
        """What the settings file calls it. In Docker it is another one in what it can do."""
        return f"{self.name}-docker" if self.in_docker else self.name

    @property
    def url(self) -> str:
        return build_url(self.settings.port)

    @property
    def settings(self) -> Settings:
        if not self.is_running():
            raise StackError("the stack is not running; `make up` starts it")
        record = self.state.read("server")
        if not record:
            raise StackError(f"a {self.name} of this stack is ending; try again in a moment")
        return Settings(**record["settings"])

    def is_running(self) -> bool:
        return is_held(self._lock_file())

    def is_healthy(self, port: int) -> bool:
        try:
            with _direct.open(build_url(port) + self.health_path, timeout=HEALTH_TIMEOUT_SECONDS) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ensure_started(self, requested: RequestedSettings) -> None:
        if self.is_running():
            self._refuse_changes(requested)
            if not self.is_healthy(self.settings.port):
                raise StackError(f"{self.name} runs but does not answer; `make down` stops it")
            return
        self.install()
        with claim_port(requested.port, self.state.read("port").get("port")) as port:
            endpoint = requested.functions_endpoint or build_url(port)
            self._start(Settings(self.name, port, endpoint, requested.server_env))
        self.state.write("port", {"port": port})

    def stop(self) -> bool:
        """Whether there was anything to stop."""
        was_running = self.is_running()
        if was_running:
            pid = self.state.read("server").get("pid")
            if pid is None:
                raise StackError(f"a {self.name} of this stack runs, but its process id was not recorded")
            os.kill(pid, signal.SIGTERM)
            self._wait_for_end(self.stop_timeout_seconds)
            # Its process group: the functions, and itself if it did not end in time.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self._wait_for_end(KILL_TIMEOUT_SECONDS)
        if self.state.read("server"):
            self.remove_leftovers()
        self.state.forget("server")
        self.state.forget("deployed")
        self.state.clear_tmp()
        return was_running

    def _start(self, settings: Settings) -> None:
        with self.state.emulator_log.open("wb") as log, self._lock_file().open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self._spawn(settings, log, lock)
        record = {"pid": process.pid, "docker": self.in_docker, "settings": asdict(settings)}
        self.state.write("server", record)
        self._wait_until_healthy(process, settings.port)

    def _spawn(self, settings: Settings, log: IO[bytes], lock: IO[str]) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C here is not for it, and one signal reaches the functions too.
        return subprocess.Popen(
            self.build_command(),
            cwd=self.state.directory,
            env=self.build_environment(settings) | settings.server_env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + self.start_timeout_seconds
        while not self.is_healthy(port):
            if process.poll() is not None:
                raise StackError(f"{self.name} ended while starting:\n{self._read_log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise StackError(
                    f"{self.name} did not get ready in {self.start_timeout_seconds} s:\n{self._read_log_tail()}"
                )
            time.sleep(POLL_INTERVAL_SECONDS)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_SECONDS)

    def _refuse_changes(self, requested: RequestedSettings) -> None:
        settings = self.settings
        for name, value in vars(requested).items():
            if value and value != getattr(settings, name):
                raise StackError(
                    f"the stack already runs with {name} = {getattr(settings, name)}, not {value}; "
                    "stop it first (`make down`), its data goes with it"
                )

    def _lock_file(self) -> Path:
        return self.state.directory / "server.lock"

    def _read_log_tail(self) -> str:
        text = self.state.emulator_log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])
