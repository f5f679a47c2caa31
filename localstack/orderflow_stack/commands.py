"""The commands `up`, `logs`, `demo` and `with`; `down` is in teardown.py, because it needs no virtual environment.

In: the options of the command line. Out: a stack that is up, its log on the screen, or the exit status of a program.
Guarantees: what `with` has started is stopped again, however its program ends; what could not be tested is named.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from botocore.exceptions import EndpointConnectionError

from orderflow_stack import aws, binaries, demo, deployment, logs
from orderflow_stack.cli import Options
from orderflow_stack.emulator import Emulator, RequestedSettings
from orderflow_stack.emulator_selection import select_emulator
from orderflow_stack.errors import StackError
from orderflow_stack.ports import build_url, find_free_port
from orderflow_stack.state import State
from orderflow_stack.storefront.server import StorefrontServer
from orderflow_stack.stripe.server import StripeServer
from orderflow_stack.teardown import tear_down


def run_command(options: Options) -> None:
    inherited = dict(os.environ)
    aws.isolate_environment()
    state = State(options.state)
    match options.command:
        case "with":
            run_program(state, options, inherited)
        case "logs":
            follow_logs(state)
        case "demo":
            demo.run_demo(bring_up(state, options), StorefrontServer(state))
        case _:
            bring_up(state, options)


def run_program(state: State, options: Options, environment: dict[str, str]) -> NoReturn:
    """Runs a program against a stack of its own and exits as it does; no process is left behind."""
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.via and select_emulator(state, options.emulator).in_docker:
        # Never left out in silence.
        print("NOT TESTED on localstack-docker: functions in containers cannot reach the proxy:")
        print(f"  {shlex.join(options.program)}\n1 not tested on this emulator", flush=True)
        sys.exit(0)
    if options.payments == "stripe" and select_emulator(state, options.emulator).in_docker:
        print("NOT TESTED on localstack-docker: functions in containers cannot reach localstripe:")
        print(f"  {shlex.join(options.program)}\n1 not tested on this emulator", flush=True)
        sys.exit(0)
    proxy = _start_proxy(options)
    try:
        bring_up(state, options)
        environment["ORDERFLOW_STACK"] = str(state.env_file)
        result = subprocess.run(options.program, env=environment, check=False)
    finally:
        tear_down(options)
        if proxy:
            proxy.kill()
    _print_untested(state.untested)
    if result.returncode != 0:
        print(f"The emulator's log is in {state.emulator_log}", file=sys.stderr)
    sys.exit(result.returncode)


def follow_logs(state: State) -> None:
    try:
        logs.follow(select_emulator(state).url)
    except KeyboardInterrupt:
        return
    except EndpointConnectionError:
        raise StackError("the stack has been stopped; `make up` starts it") from None


def bring_up(state: State, options: Options) -> Emulator:
    if options.build:
        binaries.build()
    begun = time.monotonic()
    state.untested.unlink(missing_ok=True)
    with state.lock_exclusively():
        hashes = binaries.stage(state, options.bin_dir)
        _clear_killed_server(state)
        emulator = select_emulator(state, options.emulator)
        emulator.ensure_started(
            RequestedSettings(options.emulator, options.port, options.functions_endpoint, options.server_env)
        )
        deployment.deploy(state, emulator, options, hashes)
    print(
        f"The stack is up ({time.monotonic() - begun:.1f} s); its addresses: {state.env_file}",
        flush=True,
    )
    if StripeServer(state).is_running():
        print(f"Orders are paid by the Stripe (localstripe) at {StripeServer(state).url}", flush=True)
    if options.storefront:
        print(f"The storefront: {StorefrontServer(state).url}/", flush=True)
    return emulator


def _print_untested(file: Path) -> None:
    """What the tests could not try on this emulator: never left out in silence."""
    lines = sorted(set(file.read_text().splitlines())) if file.is_file() else []
    for line in lines:
        print(line)
    print(f"{len(lines)} not tested on this emulator", flush=True)


def _clear_killed_server(state: State) -> None:
    """A server that was killed leaves its record, its files, and in Docker its containers."""
    recorded = select_emulator(state)
    if not recorded.is_running():
        # What localstripe knows is of orders that are gone.
        StripeServer(state).stop()
        StorefrontServer(state).stop()
        recorded.stop()


def _start_proxy(options: Options) -> subprocess.Popen[bytes] | None:
    if options.via is None:
        return None
    # All ports beforehand: each of them has to be told the others'.
    listen, options.port = find_free_port(), find_free_port()
    options.functions_endpoint = build_url(listen)
    command = [str(options.via), str(listen), str(options.port)]
    if options.payments == "stripe":
        options.stripe_port = find_free_port()
        command.append(str(options.stripe_port))
    return subprocess.Popen(command)
