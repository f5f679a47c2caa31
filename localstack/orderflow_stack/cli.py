"""The command line of stack.py.

In: the words after `python3 localstack/stack.py`. Out: `Options`, one field for each of them.
Guarantees: what does not make sense is refused with a sentence, before anything is done.
"""

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The first is the default.
EMULATORS = ("ministack", "localstack")


@dataclass
class Options:
    """What was asked for. None and empty mean: not asked, so a running stack keeps what it has."""

    command: str
    state: Path | None
    emulator: str | None = None
    port: int | None = None
    mail_mode: str | None = None
    payments: str | None = None
    bin_dir: Path | None = None
    build: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
    functions_endpoint: str | None = None
    stripe_port: int = 0
    storefront: bool = False
    server_env: dict[str, str] = field(default_factory=dict)
    via: Path | None = None
    program: list[str] = field(default_factory=list)


def parse_arguments(arguments: list[str] | None = None) -> Options:
    values = vars(_build_parser().parse_args(arguments))
    for name in ("parameters", "server_env"):
        if name in values:
            values[name] = dict(values[name])
    return Options(**values)


def _build_parser() -> argparse.ArgumentParser:
    state, starting = _build_state_options(), _build_starting_options()
    parser = argparse.ArgumentParser(prog="stack.py", description="Orderflow on this machine.")
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "up",
        parents=[state, starting],
        help="build, start the emulator, deploy; on a running stack, deploy what has changed",
    )
    commands.add_parser("down", parents=[state], help="stop it; its data is gone")
    commands.add_parser("logs", parents=[state], help="follow the logs of all functions")
    commands.add_parser("demo", parents=[state, starting], help="up, then place an order and watch it through")
    run = commands.add_parser(
        "with",
        parents=[state, starting],
        help="up, run a program with ORDERFLOW_STACK naming the stack's settings, and always down",
    )
    run.add_argument(
        "--via",
        type=_parse_path,
        metavar="PROXY",
        help="a program that stands between the functions and the emulator; "
        "it is run with the port to listen on and the emulator's port",
    )
    run.add_argument("program", nargs="+", metavar="PROGRAM", help="after --: what to run")
    return parser


def _build_state_options() -> argparse.ArgumentParser:
    """What every command takes."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--state",
        type=_parse_path,
        metavar="DIR",
        help="where this stack keeps its files (default .local/stack); one directory, one stack",
    )
    return options


def _build_starting_options() -> argparse.ArgumentParser:
    """What the commands take that start a stack."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--emulator", choices=EMULATORS, help=f"default {EMULATORS[0]}")
    options.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or None,
        help="of the emulator; 0 is any free one (default: $PORT, or 4566 if it is free, or any)",
    )
    options.add_argument("--mail-mode", choices=("console", "ses"), help="default console")
    options.add_argument(
        "--payments",
        choices=("none", "stripe"),
        help="stripe has orders paid, by a localstripe that is started beside the emulator (default none)",
    )
    options.add_argument(
        "--storefront",
        action="store_true",
        help="serve examples/storefront beside the emulator, and let its pages call the API",
    )
    options.add_argument(
        "--bin-dir",
        type=_parse_path,
        metavar="DIR",
        help="where the functions' binaries are (default target/debug)",
    )
    options.add_argument("--no-build", dest="build", action="store_false", help="take the binaries as they are")
    options.add_argument(
        "--param",
        dest="parameters",
        type=_parse_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the template; repeatable",
    )
    options.add_argument(
        "--functions-endpoint",
        metavar="URL",
        help="what the functions get as AWS_ENDPOINT_URL (default: the emulator's own URL)",
    )
    options.add_argument(
        "--server-env",
        type=_parse_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an environment variable of the emulator, such as AUTH=true; repeatable",
    )
    return options


def _parse_assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _parse_path(text: str) -> Path:
    return Path(text).absolute()
