"""`down`: stops the emulator and every function, and with them everything that they hold."""

from orderflow_stack import emulator_selection as emulators
from orderflow_stack.cli import Options
from orderflow_stack.state import State


def run(options: Options) -> None:
    state = State(options.state)
    with state.exclusively():
        emulator = emulators.of(state)
        stopped = emulator.stop()
        state.env_file.unlink(missing_ok=True)
    print(f"Stopped {emulator.name}." if stopped else "It was not running.")
