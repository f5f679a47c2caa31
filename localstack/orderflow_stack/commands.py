"""`up`, `logs`, `demo` and `with`; `down` is in teardown.py, because it has to work without the venv."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from botocore.exceptions import EndpointConnectionError

from orderflow_stack import aws, binaries, demo, deployment, logs, teardown
from orderflow_stack import emulator_selection as emulators
from orderflow_stack.cli import Options
from orderflow_stack.emulator import Emulator, Wanted, free_port, url_of
from orderflow_stack.errors import StackError
from orderflow_stack.state import State


def run(options: Options) -> None:
    inherited = dict(os.environ)
    aws.isolate()
    state = State(options.state)
    if options.command == "with":
        run_with(state, options, inherited)
    if options.command == "logs":
        follow(state)
        return
    emulator = up(state, options)
    if options.command == "demo":
        demo.play(emulator)


def run_with(state: State, options: Options, environment: dict[str, str]) -> NoReturn:
    """Runs a program against a stack of its own and exits as it does; no process is left behind."""
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.via and emulators.of(state, options.emulator).docker:
        # Never left out in silence.
        print("NOT TESTED on localstack-docker: functions in containers cannot reach the proxy:")
        print(f"  {shlex.join(options.program)}\n1 not tested on this emulator", flush=True)
        sys.exit(0)
    proxy = _start_proxy(options)
    try:
        up(state, options)
        environment["ORDERFLOW_STACK"] = str(state.env_file)
        result = subprocess.run(options.program, env=environment)
    finally:
        teardown.run(options)
        if proxy:
            proxy.kill()
    _print_untested(state.untested)
    if result.returncode != 0:
        print(f"The emulator's log is in {state.emulator_log}", file=sys.stderr)
    sys.exit(result.returncode)


def _print_untested(file: Path) -> None:
    """What the tests could not try on this emulator: never left out in silence."""
    lines = sorted(set(file.read_text().splitlines())) if file.is_file() else []
    for line in lines:
        print(line)
    print(f"{len(lines)} not tested on this emulator", flush=True)


def _forget_killed(state: State) -> None:
    """A server that was killed leaves its record, its files, and in Docker its containers."""
    recorded = emulators.of(state)
    if not recorded.running():
        recorded.stop()


def _start_proxy(options: Options) -> subprocess.Popen[bytes] | None:
    if options.via is None:
        return None
    # Both ports beforehand: each of the two has to be told the other's.
    listen, options.port = free_port(), free_port()
    options.functions_endpoint = url_of(listen)
    return subprocess.Popen([str(options.via), str(listen), str(options.port)])


def follow(state: State) -> None:
    try:
        logs.follow(emulators.of(state).url)
    except KeyboardInterrupt:
        return
    except EndpointConnectionError:
        raise StackError("the stack has been stopped") from None


def up(state: State, options: Options) -> Emulator:
    if options.build:
        binaries.build()
    begun = time.monotonic()
    state.untested.unlink(missing_ok=True)
    with state.exclusively():
        hashes = binaries.stage(state, options.bin_dir)
        _forget_killed(state)
        emulator = emulators.of(state, options.emulator)
        emulator.ensure_started(
            Wanted(options.emulator, options.port, options.functions_endpoint, options.server_env)
        )
        deployment.deploy(state, emulator, options, hashes)
    print(
        f"The stack is up ({time.monotonic() - begun:.1f} s); its addresses: {state.env_file}",
        flush=True,
    )
    return emulator
