"""Becomes the given program, and dies with the process that asked for it.

In: `python -I -S launcher.py PARENT_PID PROGRAM [ARGUMENT ...]`. Out: the program, in place of this process.
Guarantees: Linux kills the program as soon as the thread that started it ends, also when that thread's process was
killed with SIGKILL. So it has to be started from a thread that lives as long as the program may.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the line above took effect.
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")
    # Python ignores these two; the program is to get them as any other program does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")


main()
