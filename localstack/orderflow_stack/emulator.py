"""What all emulators have in common: a server process of ours, its address, and its life."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from orderflow_stack.errors import StackError
from orderflow_stack.state import State

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
DEFAULT_PORT = 4566
# From SIGKILL to the end of a process, in seconds.
KILL_TIMEOUT = 5
# Of any free ones; each could be taken in between by another program.
PORTS_TRIED = 5

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
class Wanted:
    """What the command line asks of the server; None and empty leave the choice."""

    emulator: str | None = None
    port: int | None = None
    functions_endpoint: str | None = None
    server_env: dict[str, str] = field(default_factory=dict)


class Emulator(ABC):
    """One emulator of AWS. Subclasses say how it is started and how its URLs look."""

    name: str
    # Whether the server's process only watches over containers.
    docker = False
    start_timeout = 60
    stop_timeout = 10
    # Types of resources that its CloudFormation cannot change once they are made.
    unchangeable: frozenset[str] = frozenset()

    def __init__(self, state: State) -> None:
        self.state = state

    def install(self) -> None:  # noqa: B027
        """Before each start: installs what the server needs beyond the venv."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line."""

    @abstractmethod
    def environment(self, settings: Settings) -> dict[str, str]:
        """The server's whole environment."""

    @abstractmethod
    def health_path(self) -> str:
        """Answers 200 as soon as the server can be used."""

    @abstractmethod
    def api_url(self, api_id: str, stage: str) -> str:
        """Where the server serves a REST API; no slash at the end."""

    @abstractmethod
    def mails_url(self) -> str:
        """Where the mails can be read that were sent through SES."""

    def template_parameters(self) -> dict[str, str]:
        """Parameters of the template that this emulator needs to be different."""
        return {}

    def complete(self, outputs: dict[str, str]) -> None:  # noqa: B027
        """After each deployment: does what this emulator's CloudFormation leaves out."""

    def remove_remains(self) -> None:  # noqa: B027
        """After the server's end, however it came: removes what does not end with it."""

    @property
    def kind(self) -> str:
        """What the settings file calls it. In Docker it is another one in what it can do."""
        return f"{self.name}-docker" if self.docker else self.name

    @property
    def url(self) -> str:
        return url_of(self.settings.port)

    @property
    def settings(self) -> Settings:
        if not self.running():
            raise StackError("the stack is not running; `make up` starts it")
        record = self.state.read("server")
        if not record:
            raise StackError(f"a {self.name} of this stack is ending; try again in a moment")
        return Settings(**record["settings"])

    def running(self) -> bool:
        """The server holds a lock on a file of ours from its first to its last moment, so this
        cannot mistake another process for it, whatever number the system gives that."""
        with open(self._lock_file(), "a") as lock:
            try:
                # Shared, so that two who ask at once do not take each other for the server.
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def healthy(self, port: int) -> bool:
        try:
            with _direct.open(url_of(port) + self.health_path(), timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ensure_started(self, wanted: Wanted) -> None:
        if self.running():
            self._refuse_changes(wanted)
            if not self.healthy(self.settings.port):
                raise StackError(f"{self.name} runs but does not answer; `make down` stops it")
            return
        self.install()
        with _claimed_port(wanted.port, self.state.read("port").get("port")) as port:
            endpoint = wanted.functions_endpoint or url_of(port)
            self._start(Settings(self.name, port, endpoint, wanted.server_env))
        self.state.write("port", {"port": port})

    def stop(self) -> bool:
        """Whether there was anything to stop."""
        was_running = self.running()
        if was_running:
            pid = self.state.read("server").get("pid")
            if pid is None:
                raise StackError(
                    f"a {self.name} of this stack runs, but its process id was not recorded"
                )
            os.kill(pid, signal.SIGTERM)
            self._wait_for_end(self.stop_timeout)
            # Its process group: the functions, and itself if it did not end in time.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self._wait_for_end(KILL_TIMEOUT)
        if self.state.read("server"):
            self.remove_remains()
        self.state.forget("server")
        self.state.forget("deployed")
        self.state.clear_tmp()
        return was_running

    def _start(self, settings: Settings) -> None:
        with open(self.state.emulator_log, "wb") as log, open(self._lock_file(), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = self._spawn(settings, log, lock)
        record = {"pid": process.pid, "docker": self.docker, "settings": asdict(settings)}
        self.state.write("server", record)
        self._wait_until_healthy(process, settings.port)

    def _spawn(self, settings: Settings, log: IO[bytes], lock: IO[str]) -> subprocess.Popen[bytes]:
        # Its own session: Ctrl-C here is not for it, and one signal reaches the functions too.
        return subprocess.Popen(
            self.command(),
            cwd=self.state.directory,
            env=self.environment(settings) | settings.server_env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + self.start_timeout
        while not self.healthy(port):
            if process.poll() is not None:
                raise StackError(f"{self.name} ended while starting:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise StackError(
                    f"{self.name} did not get ready in {self.start_timeout} s:\n{self._log_tail()}"
                )
            time.sleep(0.05)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _refuse_changes(self, wanted: Wanted) -> None:
        has = self.settings
        for name, asked in vars(wanted).items():
            if asked and asked != getattr(has, name):
                raise StackError(
                    f"the stack already runs with {name} = {getattr(has, name)}, not {asked}; "
                    "stop it first (`make down`), its data goes with it"
                )

    def _lock_file(self) -> Path:
        return self.state.directory / "server.lock"

    def _log_tail(self, lines: int = 20) -> str:
        text = self.state.emulator_log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _claimed_port(wanted: int | None, remembered: int | None) -> Iterator[int]:
    """A free port, which no other stack of this machine takes until a server listens on it."""
    for port in _candidates(wanted, remembered):
        # Claimed is the UDP port of the same number: that leaves no file, and ends with us.
        with socket.socket(type=socket.SOCK_DGRAM) as claim:
            if _bind(claim, port) and not _in_use(port):
                yield port
                return
    raise StackError(
        f"port {wanted} is in use; choose another with PORT=" if wanted else "no port is free"
    )


def _candidates(wanted: int | None, remembered: int | None) -> list[int]:
    if wanted:
        return [wanted]
    # 0, as everywhere: any free one, and not the default, which somebody may want in a moment.
    preferred = [] if wanted == 0 else [remembered or DEFAULT_PORT, DEFAULT_PORT]
    return preferred + [free_port() for _ in range(PORTS_TRIED)]


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def _bind(claim: socket.socket, port: int) -> bool:
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
