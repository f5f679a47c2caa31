"""Runs the pinned cargo-lambda, which `cargo lambda deploy` in the tests goes through.

In: the arguments of this process. Out: cargo-lambda's output and exit status; it replaces this process.
"""

import os
import sys
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import LOCAL_DIRECTORY
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

ENVIRONMENT = VirtualEnvironment(
    LOCAL_DIRECTORY / "cargo-lambda", Path(__file__).with_name("cargo-lambda-requirements.txt"), "cargo-lambda"
)


def main() -> None:
    try:
        ENVIRONMENT.install_if_outdated(find_base_python())
    except StackError as error:
        sys.exit(f"error: {error}")
    program = str(ENVIRONMENT.program("cargo-lambda"))
    # Zig, which it links with, is a program of the same virtual environment.
    path = f"{ENVIRONMENT.directory / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execve(program, [program, "lambda", *sys.argv[1:]], os.environ | {"PATH": path})
