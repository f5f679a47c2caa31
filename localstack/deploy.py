"""Deploys Orderflow into an AWS account, tries it there, and takes it away.

    python3 localstack/deploy.py up | function | smoke | destroy      (--help says more)

The account, its region and who is calling are those of the usual AWS settings. It needs Python 3.11 and its standard
library; the rest it installs into .local/venv by itself. `make deploy`, `make smoke` and `make destroy` call it.
"""

import sys

from orderflow_stack.errors import StackError
from orderflow_stack.virtual_environment import enter_stack_environment


def main() -> None:
    try:
        enter_stack_environment()
        # Not at the top: it imports boto3, which only .local/venv has for certain.
        from orderflow_stack.account_commands import run_command

        run_command(sys.argv[1:])
    except StackError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
