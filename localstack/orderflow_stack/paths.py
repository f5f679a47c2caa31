"""Where the repository is, and the two directories in it that hold what is made on this machine.

Guarantees: nothing of the local stack is written anywhere else.
"""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Stacks with their data, and the virtual environments of the stack's own programs.
LOCAL_DIRECTORY = REPOSITORY / ".local"
# Downloads that can be had again.
CACHE_DIRECTORY = REPOSITORY / ".cache"
