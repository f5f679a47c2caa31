"""One process of a function: starts it, keeps what it prints, and sees to its end.

In: a program and its environment. Out: what it has printed, and how it ended.
Guarantees: on Linux the process does not outlive this one; it never waits because nobody reads what it prints.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

READ_SIZE_BYTES = 65_536
LAUNCHER = Path(__file__).with_name("launcher.py")

# The one thread that starts processes. They end with it (see launcher.py), so it never ends.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="function-starter")


def tie_to_this_process(command: list[str]) -> list[str]:
    """The command line that ties a program to this process: it dies with it."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]


class FunctionProcess:
    """Runs `program` in its directory; calls `on_end` once, after it has ended."""

    def __init__(self, program: Path, environment: dict[str, str], on_end: Callable[[], None]) -> None:
        self._output = bytearray()
        self._reading = threading.Lock()
        self._process = _starter.submit(_start, program, environment).result()
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        threading.Thread(target=self._read_to_end, daemon=True).start()
        threading.Thread(target=self._wait_for_end, args=[on_end], daemon=True).start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Returns when it is gone; it may have gone before."""
        self._process.kill()
        self._process.wait()

    def describe_end(self) -> str:
        """In the words of AWS."""
        code = self._process.wait()
        return f"exit status {code}" if code >= 0 else f"signal: {signal.Signals(-code).name}"

    def take_output(self) -> str:
        """What it has printed since the last time, up to this moment."""
        with self._reading:
            while not self._pipe.closed and self._readable(0) and self._read():
                pass
            output = self._output.decode(errors="replace")
            self._output.clear()
        return output

    def _read_to_end(self) -> None:
        # All the time, because a process whose output nobody reads comes to a halt.
        more = True
        while more:
            self._readable(None)
            with self._reading:
                more = not self._readable(0) or self._read()
        with self._reading:
            self._pipe.close()

    def _readable(self, timeout: float | None) -> bool:
        # Not select(), which takes no file descriptor above 1023.
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        return bool(poll.poll(timeout))

    def _read(self) -> bool:
        """False at the end of the output."""
        data = os.read(self._pipe.fileno(), READ_SIZE_BYTES)
        self._output += data
        return bool(data)

    def _wait_for_end(self, on_end: Callable[[], None]) -> None:
        self._process.wait()
        on_end()


def _start(program: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # In this process's own group, so that one signal to the group ends the functions, too.
    return subprocess.Popen(
        tie_to_this_process([str(program)]),
        cwd=program.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
