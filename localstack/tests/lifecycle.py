"""Tests a stack from its start to its end, on the emulator that EMULATOR names: what it leaves behind.

    EMULATOR=localstack python3 localstack/tests/lifecycle.py

It needs the functions' binaries (`make build`) and Linux, whose /proc says what a process holds.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.localstack_docker.emulator import is_docker_wanted
from orderflow_stack.paths import LOCAL_DIRECTORY, REPOSITORY

STACKS = LOCAL_DIRECTORY / "test" / "lifecycle"
EMULATOR = os.environ.get("EMULATOR", "ministack")
# From the kill to the end of the last process.
END_TIMEOUT_SECONDS = 10


class LifecycleTest(unittest.TestCase):
    def setUp(self) -> None:
        self.state = STACKS / "one"
        for directory in (self.state, STACKS / "other"):
            # Of a run that was interrupted.
            run("down", directory)
            shutil.rmtree(directory)
            self.addCleanup(run, "down", directory)

    def test_no_process_outlives_a_killed_server_and_the_next_stack_starts(self) -> None:
        run("demo", self.state)
        server = json.loads((self.state / "server.json").read_text())["pid"]
        self.assertGreater(len(list(processes(self.state))), 1, "the server and its functions")
        os.kill(server, signal.SIGKILL)
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        while left := [command_line(process) for process in processes(self.state)]:
            self.assertLess(time.monotonic(), deadline, f"{END_TIMEOUT_SECONDS} s after the kill: {left}")
            time.sleep(0.1)
        run("demo", self.state)

    def test_no_process_writes_outside_the_checkout(self) -> None:
        home, tmp = self.state / "somebodys-home", self.state / "somebodys-tmp"
        for directory in (home, tmp):
            directory.mkdir(parents=True)
        run("demo", self.state, HOME=str(home), TMPDIR=str(tmp))
        self.assertEqual([*home.iterdir(), *tmp.iterdir()], [])
        held = {path for process in processes(self.state) for path in files(process)}
        self.assertTrue(any(path.is_relative_to(self.state) for path in held), "the log, at least")
        self.assertEqual({path for path in held if not path.is_relative_to(REPOSITORY)}, set())

    def test_two_stacks_started_at_once_have_a_port_each(self) -> None:
        states = (self.state, STACKS / "other")
        started = [subprocess.Popen(command("up", state)) for state in states]
        self.assertEqual([process.wait() for process in started], [0, 0])
        ports = {json.loads((state / "port.json").read_text())["port"] for state in states}
        self.assertEqual(len(ports), 2)


def command(name: str, state: Path) -> list[str]:
    starting = [] if name == "down" else ["--no-build", "--emulator", EMULATOR]
    stack = str(REPOSITORY / "localstack" / "stack.py")
    return [sys.executable, stack, name, *starting, "--state", str(state)]


def run(name: str, state: Path, **environment: str) -> None:
    # What the demo prints is shown by make demo.
    subprocess.run(command(name, state), env=os.environ | environment, stdout=subprocess.DEVNULL, check=True)


def processes(state: Path) -> Iterator[Path]:
    """Those that run in the stack's directory: the server, and whatever it has started."""
    for process in Path("/proc").glob("[0-9]*"):
        if is_in(process / "cwd", state):
            yield process


def is_in(link: Path, directory: Path) -> bool:
    try:
        return link.readlink().is_relative_to(directory)
    except OSError:
        # It has ended, or is somebody else's.
        return False


def files(process: Path) -> Iterator[Path]:
    """What it has open for writing, and what it has mapped from where temporary files are."""
    for descriptor in (process / "fd").iterdir():
        try:
            info = (process / "fdinfo" / descriptor.name).read_text()
            target = descriptor.readlink()
        except FileNotFoundError:
            # Closed since it was listed.
            continue
        flags = info.split("flags:")[1].split()[0]
        if int(flags, 8) & os.O_ACCMODE and target.is_absolute() and target.parts[1] != "dev":
            yield target
    for line in (process / "maps").read_text().splitlines():
        mapped = Path(line.split(maxsplit=5)[-1])
        if mapped.is_relative_to("/tmp"):
            yield mapped


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return "one that has just ended"


if __name__ == "__main__":
    if EMULATOR == "localstack" and is_docker_wanted():
        print("NOT TESTED on localstack-docker: its processes are in containers, not in /proc")
        print("1 not tested on this emulator")
    else:
        unittest.main()
