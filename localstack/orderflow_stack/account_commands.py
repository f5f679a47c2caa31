"""The command line of deploy.py.

In: the words after `python3 localstack/deploy.py`. Out: a stack that is deployed, tried or deleted.
Guarantees: what is missing is said in one sentence, before anything is built or changed; what is asked for is refused
if it makes no sense.
"""

import argparse
import os
from pathlib import Path

from orderflow_stack import account, smoke
from orderflow_stack.account import Account

# SES's own address for tests: it takes the mail, and nobody gets it.
# https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html#send-email-simulator
SMOKE_EMAIL = "success@simulator.amazonses.com"


def run_command(arguments: list[str]) -> None:
    options = _build_parser().parse_args(arguments)
    match options.command:
        case "up":
            account.deploy(Account.of_caller(options.region), options.stack, dict(options.parameters), options.bin_dir)
        case "function":
            account.deploy_function(Account.of_caller(options.region), options.stack, options.function, options.bin_dir)
        case "smoke":
            smoke.run(options.api_url.rstrip("/"), options.email, options.region)
        case "destroy":
            account.destroy(Account.of_caller(options.region), options.stack, options.yes)


def _build_parser() -> argparse.ArgumentParser:
    region = argparse.ArgumentParser(add_help=False)
    # Of the environment's two variables boto3 knows one, and the SDKs of the functions the other.
    named = os.environ.get("AWS_REGION")
    region.add_argument(
        "--region", type=lambda text: text or named, default=named, help="default: that of the AWS settings"
    )
    stack = argparse.ArgumentParser(add_help=False, parents=[region])
    stack.add_argument("--stack", required=True, type=_parse_stack, metavar="NAME", help="the CloudFormation stack")
    parser = argparse.ArgumentParser(prog="deploy.py", description="Orderflow in an AWS account.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    built = argparse.ArgumentParser(add_help=False)
    built.add_argument(
        "--bin-dir",
        type=lambda text: Path(text).absolute() if text else None,
        metavar="DIR",
        help="where the functions' binaries are, instead of building them",
    )
    up = commands.add_parser(
        "up", parents=[stack, built], help="build the functions for arm64, and deploy the template"
    )
    up.add_argument(
        "--param",
        dest="parameters",
        type=_parse_parameter,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the template; repeatable. What is not given stays as it was deployed",
    )
    function = commands.add_parser(
        "function", parents=[stack, built], help="build one function, and deploy its code alone"
    )
    function.add_argument("--function", required=True, type=_parse_function, metavar="FN", help="such as order-api")
    tried = commands.add_parser("smoke", parents=[region], help="place an order by a deployed API, and cancel it")
    tried.add_argument("--api-url", required=True, type=_parse_url, metavar="URL", help="with the stage: .../v1")
    tried.add_argument("--email", default=SMOKE_EMAIL, help="whom the order's mails go to (default: %(default)s)")
    gone = commands.add_parser("destroy", parents=[stack], help="delete the stack; asks first")
    gone.add_argument("--yes", action="store_true", help="does not ask")
    return parser


def _parse_stack(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("no stack is named: STACK=shop")
    return text


def _parse_function(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("no function is named: FN=order-api")
    return text


def _parse_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no URL of an API: API_URL=https://….execute-api.REGION.amazonaws.com/v1"
        )
    return text


def _parse_parameter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
