"""The emulators that a stack can run on."""

from cli import EMULATORS
from emulator import Emulator
from localstack_host import LocalStackHost
from ministack import MiniStack
from state import State

_CLASSES: dict[str, type[Emulator]] = {emulator.name: emulator for emulator in (MiniStack, LocalStackHost)}


def of(state: State, wanted: str | None = None) -> Emulator:
    """The emulator that this stack was started on, else the wanted one, else the default."""
    server = state.read("server")
    started = server["settings"]["emulator"] if server else None
    return _CLASSES[started or wanted or EMULATORS[0]](state)
