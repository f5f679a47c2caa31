"""Says whether a server of a stack runs, by a file that its process holds locked.

In: the file. Out: whether anybody holds it.
Guarantees: a process holds it from its first to its last moment, so no other one is ever taken for it, whatever number
the system gives that. Works with the standard library alone, because `down` must.
"""

import fcntl
from pathlib import Path


def is_held(file: Path) -> bool:
    with file.open("a") as lock:
        try:
            # Shared, so that two who ask at once do not take each other for the server.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
