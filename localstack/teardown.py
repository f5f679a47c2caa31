"""`down`: stops the emulator and every function, and with them everything that they hold."""

import emulators
from cli import Options
from state import State


def run(options: Options) -> None:
    state = State(options.state)
    with state.exclusively():
        emulator = emulators.of(state)
        stopped = emulator.stop()
        state.env_file.unlink(missing_ok=True)
    print(f"Stopped {emulator.name}." if stopped else "It was not running.")
