"""`down`: stops the emulator, every function and localstripe, and with them everything that they hold.

Needs the standard library alone: who stops a stack should not have to install anything.
"""

from orderflow_stack.cli import Options
from orderflow_stack.emulator_selection import select_emulator
from orderflow_stack.state import State
from orderflow_stack.storefront.server import StorefrontServer
from orderflow_stack.stripe.server import StripeServer


def tear_down(options: Options) -> None:
    state = State(options.state)
    with state.lock_exclusively():
        emulator = select_emulator(state)
        StripeServer(state).stop()
        StorefrontServer(state).stop()
        stopped = emulator.stop()
        state.env_file.unlink(missing_ok=True)
    print(f"Stopped {emulator.name}." if stopped else "It was not running.")
