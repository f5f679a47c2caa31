"""Runs Orderflow on this machine, on an emulator of AWS.

    python3 localstack/stack.py up | down | logs | demo      (--help says more)

It needs Python 3.11 and its standard library; the rest it installs into .local/venv by itself.
"""

import sys

from orderflow_stack.cli import parse_arguments
from orderflow_stack.errors import StackError
from orderflow_stack.teardown import tear_down
from orderflow_stack.virtual_environment import enter_stack_environment


def main() -> None:
    options = parse_arguments()
    try:
        # Stopping needs no library, and should not install any.
        if options.command == "down":
            tear_down(options)
            return
        enter_stack_environment()
        # Not at the top: it imports boto3, which only .local/venv has for certain.
        from orderflow_stack.commands import run_command

        run_command(options)
    except StackError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
