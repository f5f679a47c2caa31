"""Checks the Python code of localstack/ and of tests/sim/, and the template: ruff, mypy, cfn-lint.

In: `pyproject.toml` in localstack/, which says what is checked of Python. Out: what is wrong, and the exit status.
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
    LOCAL_DIRECTORY / "python-checks",
    Path(__file__).with_name("python-checks-requirements.txt"),
    "ruff, mypy and cfn-lint",
)
CHECKED_PATHS = (".", "../tests/sim/mutants.py")
TEMPLATE = "../infra/template.yaml"
# Named, because ruff looks for it beside each file.
CONFIG = "--config=pyproject.toml"
CHECKS = (
    ("ruff", "format", CONFIG, "--quiet", "--diff", *CHECKED_PATHS),
    ("ruff", "check", CONFIG, "--quiet", *CHECKED_PATHS),
    ("mypy", "--no-error-summary", *CHECKED_PATHS),
    # Errors and warnings, with no rule left out.
    ("cfn-lint", "--format", "parseable", TEMPLATE),
)
FIXES = (
    ("ruff", "check", CONFIG, "--quiet", "--fix-only", *CHECKED_PATHS),
    ("ruff", "format", CONFIG, "--quiet", *CHECKED_PATHS),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="check.py", description="Checks the Python code and the template.")
    parser.add_argument("--fix", action="store_true", help="first format Python, and mend what ruff can mend")
    options = parser.parse_args()
    try:
        ENVIRONMENT.install_if_outdated(find_base_python())
    except StackError as error:
        sys.exit(f"error: {error}")
    if options.fix:
        for command in FIXES:
            _run(*command)
    failed = [command[0] for command in CHECKS if not _run(*command)]
    if failed:
        sys.exit(
            f"error: {', '.join(failed)} found something; "
            "`python3 localstack/check.py --fix` mends Python's format and some of its lints"
        )


def _run(program: str, *arguments: str) -> bool:
    """Whether it found everything as it should be."""
    command = [str(ENVIRONMENT.program(program)), *arguments]
    return subprocess.run(command, cwd=CHECKED_DIRECTORY, check=False).returncode == 0
