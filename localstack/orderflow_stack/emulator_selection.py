"""Chooses the emulator that a stack runs on.

In: the stack's record of a server (`server.json`), and the name that was asked for. Out: an `Emulator`.
Guarantees: while a server runs, it is that one, whatever is asked for; who asked for another is told so.
"""

from orderflow_stack.cli import EMULATORS
from orderflow_stack.emulator import Emulator
from orderflow_stack.localstack_docker.emulator import LocalStackDocker, is_docker_wanted
from orderflow_stack.localstack_host.emulator import LocalStackHost
from orderflow_stack.ministack.emulator import MiniStack
from orderflow_stack.state import State


def select_emulator(state: State, requested: str | None = None) -> Emulator:
    """The emulator that this stack runs on, else the requested one, else the one that it ran on, else the default."""
    server = state.read("server")
    if server:
        recorded = _find_class(server["settings"]["emulator"], server.get("docker", False))(state)
        if requested is None or recorded.is_running():
            return recorded
    name = requested or EMULATORS[0]
    return _find_class(name, name == LocalStackHost.name and is_docker_wanted())(state)


def _find_class(name: str, in_docker: bool) -> type[Emulator]:
    if name == MiniStack.name:
        return MiniStack
    return LocalStackDocker if in_docker else LocalStackHost
