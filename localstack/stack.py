"""Runs Orderflow on this machine, on an emulator of AWS.

    python3 localstack/stack.py up | down | logs | demo      (--help says more)

It needs Python 3.11 and its standard library; the rest it installs into .local/venv by itself.
"""

import sys

# Before the other modules are imported: an older Python could not even read them.
if sys.version_info < (3, 11):
    sys.exit(
        "The local stack needs Python 3.11 or newer; %s is %d.%d. "
        "Name another one with `make PYTHON=python3.12 ...`."
        % ((sys.executable,) + tuple(sys.version_info[:2]))
    )

from orderflow_stack import cli, teardown
from orderflow_stack import virtual_environment as venv_setup
from orderflow_stack.errors import StackError


def main() -> None:
    options = cli.parse()
    try:
        # Stopping needs no library, and should not install any.
        if options.command == "down":
            teardown.run(options)
            return
        venv_setup.enter()
        from orderflow_stack import commands

        commands.run(options)
    except StackError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
