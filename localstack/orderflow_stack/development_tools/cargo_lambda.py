"""Runs the pinned cargo-lambda; the first time it is installed into .local/cargo-lambda.

    python3 localstack/cargo_lambda.py deploy FUNCTION --binary-name BINARY ...
"""

import os
import sys
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.virtual_environment import Venv, base_python

VENV = Venv(
    REPOSITORY / ".local" / "cargo-lambda",
    Path(__file__).with_name("cargo-lambda-requirements.txt"),
    "cargo-lambda",
)


def main() -> None:
    try:
        VENV.ensure(base_python())
    except StackError as error:
        sys.exit(f"error: {error}")
    program = str(VENV.program("cargo-lambda"))
    # Zig, which it links with, is a program of the same venv.
    path = f"{VENV.directory / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execve(program, [program, "lambda", *sys.argv[1:]], os.environ | {"PATH": path})


if __name__ == "__main__":
    main()
