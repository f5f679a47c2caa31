"""Starts every function of a deployed stack once.

In: a running emulator and the deployed stack. Out: nothing, or a `StackError` that names the function which fails.
Guarantees: no order, product or mail comes into being by it. CREATE_COMPLETE does not say that the code of a function
can run, and an emulator may answer for a function that has none.
"""

import urllib.error
import urllib.request
from typing import Any

from orderflow_stack import aws
from orderflow_stack.deployed_stack import DeployedStack
from orderflow_stack.emulator import Emulator
from orderflow_stack.errors import StackError
from orderflow_stack.function_versions import ALIAS

API_TIMEOUT_SECONDS = 30
# What an emulator says in place of a function that it cannot run.
MOCK_RESPONSE = b"Mock response"


def call_every_function(emulator: Emulator, stack: DeployedStack) -> None:
    paths = ["/", "/products"]
    if stack.parameters["Payments"] == "stripe":
        paths.append("/orders/none/payment")
    for path in paths:
        _call_api(stack.api_url + path)
    functions = aws.create_client("lambda", emulator.url)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        *_, name, alias = mapping["FunctionArn"].split(":")
        if alias != ALIAS:
            raise StackError(f"a queue is fed to {alias}, and not to the alias {ALIAS} of it")
        # An empty batch: nothing to do, but everything must be there to do it with.
        _invoke_function(functions, name, b'{"Records":[]}')
    _invoke_function(functions, stack.outputs["RelayFunction"], b"{}")
    if push_api := stack.outputs.get("PushApiFunction"):
        # That a connection has gone which nobody knows.
        gone = b'{"requestContext":{"eventType":"DISCONNECT","connectionId":"none"}}'
        _invoke_function(functions, push_api, gone)


def _call_api(url: str) -> None:
    request = urllib.request.Request(url)
    try:
        with urllib.request.urlopen(request, timeout=API_TIMEOUT_SECONDS) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    if status >= 500 or MOCK_RESPONSE in body:
        raise StackError(f"GET {url} answers {status} {body.decode(errors='replace')}; `make logs` may say why")


def _invoke_function(functions: Any, name: str, event: bytes) -> None:
    answer = functions.invoke(FunctionName=name, Qualifier=ALIAS, Payload=event)
    body = answer["Payload"].read()
    if "FunctionError" in answer or MOCK_RESPONSE in body:
        raise StackError(f"{name} fails: {body.decode(errors='replace')}; `make logs` may say why")
