"""The emulators that a stack can run on."""

from cli import EMULATORS
from emulator import Emulator
from localstack_docker import LocalStackDocker, docker_is_wanted
from localstack_host import LocalStackHost
from ministack import MiniStack
from state import State


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
