"""Does after a deployment what LocalStack's CloudFormation leaves out, with Docker and without.

In: the server's URL and outputs of the deployed stack. Out: changed resources in that server.
Guarantees: it may be done again after each deployment.
"""

from orderflow_stack import aws
from orderflow_stack.function_versions import ALIAS


def move_aliases(url: str, outputs: dict[str, str]) -> None:
    """LocalStack's CloudFormation publishes a function's new version, and cannot change an alias: its log says so."""
    functions = aws.create_client("lambda", url)
    for name in (value for key, value in outputs.items() if key.endswith("Function")):
        pages = functions.get_paginator("list_versions_by_function").paginate(FunctionName=name)
        versions = [version["Version"] for page in pages for version in page["Versions"]]
        newest = max((version for version in versions if version.isdigit()), key=int)
        functions.update_alias(FunctionName=name, Name=ALIAS, FunctionVersion=newest)
