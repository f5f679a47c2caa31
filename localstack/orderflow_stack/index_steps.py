"""In which steps the indexes of a deployed stack's tables become those of another template.

In: the template that is deployed and the one that is wanted, as dictionaries. Out: the templates to deploy one after
the other. Guarantees: no step creates or deletes more than one index of a table, because DynamoDB does no more in one
update; an index that is new is there before the functions that read it; one that is not wanted any more goes after the
last function that reads it; an index whose keys or projection change is refused, because DynamoDB cannot change them.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.OnlineOps.html
"""

import copy
from dataclasses import dataclass
from typing import Any

from orderflow_stack.errors import StackError

TABLE = "AWS::DynamoDB::Table"

Template = dict[str, Any]
Index = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The deployments, in their order."""

    # The deployed template, with more indexes: its functions and parameters stay as they are.
    before: list[Template]
    # The wanted template, with fewer and fewer indexes that it does not want.
    then: list[Template]


def plan_deployments(deployed: Template, wanted: Template) -> Plan:
    tables = {name: table for name, table in _tables(wanted).items() if name in _tables(deployed)}
    created: dict[str, list[Index]] = {}
    deleted: dict[str, list[Index]] = {}
    for name, table in tables.items():
        before, after = _indexes(_tables(deployed)[name]), _indexes(table)
        _refuse_changed(name, before, after)
        created[name] = [index for key, index in after.items() if key not in before]
        deleted[name] = [index for key, index in before.items() if key not in after]

    # All new indexes but the last, which comes with the functions that read them.
    before_steps: list[Template] = []
    for count in range(1, max((len(indexes) for indexes in created.values()), default=0)):
        step = copy.deepcopy(before_steps[-1] if before_steps else deployed)
        for name, indexes in created.items():
            if count < len(indexes):
                _add(_tables(step)[name], indexes[count - 1], tables[name])
        before_steps.append(step)
    steps: list[Template] = []
    for count in range(max((len(indexes) for indexes in deleted.values()), default=0) + 1):
        step = copy.deepcopy(wanted)
        for name, indexes in deleted.items():
            for index in indexes[count:]:
                _add(_tables(step)[name], index, _tables(deployed)[name])
        steps.append(step)
    return Plan(before_steps, steps)


def count_index_changes(before: Template, after: Template) -> dict[str, int]:
    """How many indexes of each table are created or deleted between two steps."""
    both = _tables(before).keys() & _tables(after).keys()
    return {name: len(_indexes(_tables(before)[name]).keys() ^ _indexes(_tables(after)[name]).keys()) for name in both}


def _tables(template: Template) -> dict[str, Any]:
    return {name: one for name, one in template["Resources"].items() if one["Type"] == TABLE}


def _indexes(table: dict[str, Any]) -> dict[str, Index]:
    return {index["IndexName"]: index for index in table["Properties"].get("GlobalSecondaryIndexes", [])}


def _refuse_changed(table: str, before: dict[str, Index], after: dict[str, Index]) -> None:
    for name in before.keys() & after.keys():
        for part in ("KeySchema", "Projection"):
            if before[name][part] != after[name][part]:
                raise StackError(
                    f"the index {name} of {table} has another {part} than the deployed one, and DynamoDB cannot change "
                    "it: give the new index another name"
                )


def _add(table: dict[str, Any], index: Index, of: dict[str, Any]) -> None:
    """Adds an index, and the attributes that it is keyed by, as they are defined there."""
    properties = table["Properties"]
    # Its limits are by conditions of its own template; the wanted one sets them.
    index = {key: value for key, value in index.items() if key != "OnDemandThroughput"}
    properties.setdefault("GlobalSecondaryIndexes", []).append(index)
    known = {attribute["AttributeName"] for attribute in properties["AttributeDefinitions"]}
    keys = {key["AttributeName"] for key in index["KeySchema"]} - known
    missing = [one for one in of["Properties"]["AttributeDefinitions"] if one["AttributeName"] in keys]
    properties["AttributeDefinitions"].extend(missing)
