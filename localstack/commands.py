"""`up`, `logs` and `demo`; `down` is in teardown.py, because it has to work without the venv."""

import time

from botocore.exceptions import EndpointConnectionError

import aws
import binaries
import demo
import deployment
import emulators
import logs
from cli import Options
from emulator import Emulator, Wanted
from errors import StackError
from state import State


def run(options: Options) -> None:
    aws.isolate()
    state = State(options.state)
    if options.command == "logs":
        follow(state)
        return
    emulator = up(state, options)
    if options.command == "demo":
        demo.play(emulator)


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
    with state.exclusively():
        hashes = binaries.stage(state, options.bin_dir)
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
