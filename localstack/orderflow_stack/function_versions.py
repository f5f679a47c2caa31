"""Has a deployment publish a version of each function that it changes, and of no other.

SAM publishes one if the code of a function changes, or what the template says of it. If the value of a parameter
changes it does not (https://github.com/aws/serverless-application-model/issues/1640): the function would change, and
whoever goes by its alias would not see it. It does publish one if `AutoPublishCodeSha256` changes.

In: a packaged template as a dictionary, and the values of its parameters. Out: the same template, in which each
function has an `AutoPublishCodeSha256`. Guarantees: it is another one if the code, the configuration, or the value of a
parameter in it is, and the same one otherwise.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from orderflow_stack.index_steps import Template

# What everything invokes a function by (infra/template.yaml).
ALIAS = "live"
FUNCTION = "AWS::Serverless::Function"
# What is not a part of a version.
NOT_OF_A_VERSION = ("AutoPublishCodeSha256", "DeploymentPreference", "Events", "ReservedConcurrentExecutions")
SUB_NAME = re.compile(r"\$\{([\w:]+)")


def mark_changes(template: Template, values: dict[str, str]) -> Template:
    """A value that is not among `values` is the parameter's default."""
    parameters = template.get("Parameters", {})
    chosen = {name: values.get(name, str(parameter.get("Default"))) for name, parameter in parameters.items()}
    marked = copy.deepcopy(template)
    for resource in marked["Resources"].values():
        if resource["Type"] == FUNCTION:
            resource["Properties"]["AutoPublishCodeSha256"] = _compute_hash(template, resource["Properties"], chosen)
    return marked


def _compute_hash(template: Template, properties: dict[str, Any], values: dict[str, str]) -> str:
    of_all = template.get("Globals", {}).get("Function", {})
    configuration = [
        {name: value for name, value in one.items() if name not in NOT_OF_A_VERSION} for one in (of_all, properties)
    ]
    names = set(_list_names(configuration, template.get("Conditions", {})))
    used = {name: value for name, value in values.items() if name in names}
    return hashlib.sha256(json.dumps([configuration, used], sort_keys=True).encode()).hexdigest()


def _list_names(value: Any, conditions: dict[str, Any]) -> Iterator[str]:
    """What is referred to in a part of the template, and in the conditions that it is under."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::Sub": str(text)} | {"Fn::Sub": [str(text), *_]}:
            yield from SUB_NAME.findall(text)
        case {"Condition": str(name)} | {"Fn::If": [str(name), *_]} if name in conditions:
            yield from _list_names(conditions[name], conditions)
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _list_names(part, conditions)
