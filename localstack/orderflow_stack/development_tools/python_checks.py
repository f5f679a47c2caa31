"""Checks the Python code of localstack/ and of tests/sim/: format and lints with ruff, types with mypy.

In: `pyproject.toml` in localstack/, which says what is checked. Out: what is wrong, and the exit status.
Guarantees: all of the checks are made, also when the first one fails; nothing is written outside the checkout.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from orderflow_stack.errors import StackError
from orderflow_stack.paths import LOCAL_DIRECTORY, REPOSITORY
from orderflow_stack.virtual_environment import VirtualEnvironment, find_base_python

CHECKED_DIRECTORY = REPOSITORY / "localstack"
ENVIRONMENT = VirtualEnvironment(
    LOCAL_DIRECTORY / "python-checks", Path(__file__).with_name("python-checks-requirements.txt"), "ruff and mypy"
)
CHECKED_PATHS = (".", "../tests/sim/mutants.py")
# Named, because ruff looks for it beside each file.
CONFIG = "--config=pyproject.toml"
CHECKS = (
    ("ruff", "format", CONFIG, "--quiet", "--diff"),
    ("ruff", "check", CONFIG, "--quiet"),
    ("mypy", "--no-error-summary"),
)
FIXES = (
    ("ruff", "check", CONFIG, "--quiet", "--fix-only"),
    ("ruff", "format", CONFIG, "--quiet"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="check.py", description="Checks the Python code.")
    parser.add_argument("--fix", action="store_true", help="first format it, and mend what ruff can mend")
    options = parser.parse_args()
    try:
        ENVIRONMENT.install_if_outdated(find_base_python())
    except StackError as error:
        sys.exit(f"error: {error}")
    if options.fix:
        for command in FIXES:
            _run(*command)
    failed = [" ".join(command) for command in CHECKS if not _run(*command)]
    if failed:
        sys.exit(
            f"error: {', '.join(failed)} found something; "
            "`python3 localstack/check.py --fix` mends the format and some of the lints"
        )


def _run(program: str, *arguments: str) -> bool:
    """Whether it found everything as it should be."""
    command = [str(ENVIRONMENT.program(program)), *arguments, *CHECKED_PATHS]
    return subprocess.run(command, cwd=CHECKED_DIRECTORY, check=False).returncode == 0
