"""The command line of stack.py."""

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EMULATORS = ("ministack", "localstack")


@dataclass
class Options:
    """What was asked for. None and empty mean: not asked, so a running stack keeps what it has."""

    command: str
    state: Path | None
    emulator: str | None = None
    port: int | None = None
    mail_mode: str | None = None
    bin_dir: Path | None = None
    build: bool = True
    parameters: dict[str, str] = field(default_factory=dict)
    functions_endpoint: str | None = None
    server_env: dict[str, str] = field(default_factory=dict)
    via: Path | None = None
    program: list[str] = field(default_factory=list)


def parse(arguments: list[str] | None = None) -> Options:
    values = vars(_parser().parse_args(arguments))
    for name in ("parameters", "server_env"):
        if name in values:
            values[name] = dict(values[name])
    return Options(**values)


def _parser() -> argparse.ArgumentParser:
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument(
        "--state",
        type=_directory,
        metavar="DIR",
        help="where this stack keeps its files (default .local/stack); one directory, one stack",
    )

    starting = argparse.ArgumentParser(add_help=False)
    starting.add_argument("--emulator", choices=EMULATORS, help=f"default {EMULATORS[0]}")
    starting.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or None,
        help="of the emulator; 0 is any free one (default: $PORT, or 4566 if it is free, or any)",
    )
    starting.add_argument("--mail-mode", choices=("console", "ses"), help="default console")
    starting.add_argument(
        "--bin-dir",
        type=_directory,
        metavar="DIR",
        help="where the functions' binaries are (default target/debug)",
    )
    starting.add_argument(
        "--no-build", dest="build", action="store_false", help="take the binaries as they are"
    )
    starting.add_argument(
        "--param",
        dest="parameters",
        type=_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the template; repeatable",
    )
    starting.add_argument(
        "--functions-endpoint",
        metavar="URL",
        help="what the functions get as AWS_ENDPOINT_URL (default: the emulator's own URL)",
    )
    starting.add_argument(
        "--server-env",
        type=_assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an environment variable of the emulator, such as AUTH=true; repeatable",
    )

    parser = argparse.ArgumentParser(prog="stack.py", description="Orderflow on this machine.")
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "up",
        parents=[everywhere, starting],
        help="build, start the emulator, deploy; on a running stack, deploy what has changed",
    )
    commands.add_parser("down", parents=[everywhere], help="stop it; its data is gone")
    commands.add_parser("logs", parents=[everywhere], help="follow the logs of all functions")
    commands.add_parser(
        "demo", parents=[everywhere, starting], help="up, then place an order and watch it through"
    )
    having = commands.add_parser(
        "with",
        parents=[everywhere, starting],
        help="up, run a program with ORDERFLOW_STACK naming the stack's settings, and always down",
    )
    having.add_argument(
        "--via",
        type=_directory,
        metavar="PROXY",
        help="a program that stands between the functions and the emulator; "
        "it is run with the port to listen on and the emulator's port",
    )
    having.add_argument("program", nargs="+", metavar="PROGRAM", help="after --: what to run")
    return parser


def _assignment(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _directory(text: str) -> Path:
    return Path(text).absolute()
