"""The emulators that a stack can run on."""

from orderflow_stack.cli import EMULATORS
from orderflow_stack.emulator import Emulator
from orderflow_stack.localstack_docker.emulator import LocalStackDocker, docker_is_wanted
from orderflow_stack.localstack_host.emulator import LocalStackHost
from orderflow_stack.ministack.emulator import MiniStack
from orderflow_stack.state import State


def of(state: State, wanted: str | None = None) -> Emulator:
    """The emulator that this stack runs on, else the wanted one, else the one that it ran on, else
    the default."""
    server = state.read("server")
    if server:
        recorded = _class(server["settings"]["emulator"], server.get("docker", False))(state)
        if wanted is None or recorded.running():
            return recorded
    name = wanted or EMULATORS[0]
    return _class(name, name == LocalStackHost.name and docker_is_wanted())(state)


def _class(name: str, docker: bool) -> type[Emulator]:
    if name == MiniStack.name:
        return MiniStack
    return LocalStackDocker if docker else LocalStackHost
