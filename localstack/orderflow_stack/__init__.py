"""Runs Orderflow on this machine, on an emulator of AWS.

One folder for each emulator: `ministack`, `localstack_host` (LocalStack without Docker) and `localstack_docker`.
`cli` reads the command line and `commands` carries it out; `deployment` puts the template onto the emulator.

It needs Python 3.11 or newer, and says so: older ones could not even read the other modules.
"""

import sys

# Ruff takes the required version for given (UP036), but nothing else has told the user of an older Python.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(
        "The local stack needs Python 3.11 or newer; {} is {}.{}. "
        "Name another one with `make PYTHON=python3.12 ...`.".format(sys.executable, *sys.version_info[:2])
    )
