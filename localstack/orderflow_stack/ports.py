"""Finds a TCP port of this machine for the emulator, and builds the URL that belongs to it.

In: the port that was asked for, and the one that this stack had before. Out: a port on which nobody listens.
Guarantees: two stacks that are started at the same time do not get the same port.
"""

import contextlib
import socket
from collections.abc import Iterator

from orderflow_stack.errors import StackError

HOST = "127.0.0.1"
DEFAULT_PORT = 4566
# How many free ports are tried; each could be taken in between by another program.
FREE_PORT_ATTEMPTS = 5


def build_url(port: int) -> str:
    return f"http://{HOST}:{port}"


def find_free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind((HOST, 0))
        return int(any_port.getsockname()[1])


@contextlib.contextmanager
def claim_port(requested: int | None, remembered: int | None) -> Iterator[int]:
    """A free port, which no other stack of this machine takes until a server listens on it."""
    for port in _list_candidates(requested, remembered):
        # Claimed is the UDP port of the same number: that leaves no file, and ends with this process.
        with socket.socket(type=socket.SOCK_DGRAM) as claim:
            if _bind(claim, port) and not is_in_use(port):
                yield port
                return
    raise StackError(
        f"port {requested} is in use; choose another with PORT="
        if requested
        else "no port is free; stop a stack (`make down`) or name a port with PORT="
    )


def _list_candidates(requested: int | None, remembered: int | None) -> list[int]:
    if requested:
        return [requested]
    # 0 means any free port, and not the default one, which somebody may want in a moment.
    preferred = [] if requested == 0 else [remembered or DEFAULT_PORT, DEFAULT_PORT]
    return preferred + [find_free_port() for _ in range(FREE_PORT_ATTEMPTS)]


def _bind(claim: socket.socket, port: int) -> bool:
    try:
        claim.bind((HOST, port))
    except OSError:
        return False
    return True


def is_in_use(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
