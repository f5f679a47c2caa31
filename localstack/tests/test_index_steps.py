"""Tests in which steps indexes are changed, with made templates and with the one of the first release."""

import sys
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.errors import StackError
from orderflow_stack.index_steps import Plan, Template, count_index_changes, plan_deployments


def template(indexes: dict[str, str], code: str) -> Template:
    """A table with these indexes, each with the attribute that it is keyed by, and one more resource."""
    table: dict[str, Any] = {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in sorted({"id", *indexes.values()})
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": name,
                "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
            for name, key in indexes.items()
        ],
    }
    return {
        "Resources": {
            "Orders": {"Type": "AWS::DynamoDB::Table", "Properties": table},
            "Code": {"Type": "AWS::Lambda::Function", "Properties": {"Code": code}},
        }
    }


def summarize(step: Template) -> tuple[str, list[str], list[str]]:
    """The code of a step, its indexes and its attributes."""
    table = step["Resources"]["Orders"]["Properties"]
    return (
        step["Resources"]["Code"]["Properties"]["Code"],
        [index["IndexName"] for index in table["GlobalSecondaryIndexes"]],
        sorted(attribute["AttributeName"] for attribute in table["AttributeDefinitions"]),
    )


class IndexStepsTest(unittest.TestCase):
    def test_without_a_changed_index_there_is_one_step(self) -> None:
        deployed, wanted = template({"a": "x"}, "old"), template({"a": "x"}, "new")
        self.assertEqual(plan_deployments(deployed, wanted), Plan([], [wanted]))

    def test_one_new_index_comes_with_the_code_that_reads_it(self) -> None:
        deployed, wanted = template({}, "old"), template({"a": "x"}, "new")
        self.assertEqual(plan_deployments(deployed, wanted), Plan([], [wanted]))

    def test_new_indexes_come_before_the_code_and_old_ones_go_after_it_one_at_a_time(self) -> None:
        deployed = template({"kept": "k", "old1": "p", "old2": "q"}, "old")
        wanted = template({"kept": "k", "new1": "x", "new2": "y", "new3": "z"}, "new")
        plan = plan_deployments(deployed, wanted)
        steps = [*plan.before, *plan.then]
        self.assertEqual(len(plan.before), 2)
        self.assertEqual(
            [summarize(step) for step in steps],
            [
                ("old", ["kept", "old1", "old2", "new1"], ["id", "k", "p", "q", "x"]),
                ("old", ["kept", "old1", "old2", "new1", "new2"], ["id", "k", "p", "q", "x", "y"]),
                (
                    "new",
                    ["kept", "new1", "new2", "new3", "old1", "old2"],
                    ["id", "k", "p", "q", "x", "y", "z"],
                ),
                ("new", ["kept", "new1", "new2", "new3", "old2"], ["id", "k", "q", "x", "y", "z"]),
                ("new", ["kept", "new1", "new2", "new3"], ["id", "k", "x", "y", "z"]),
            ],
        )
        self.assertEqual(steps[-1], wanted)
        for before, after in zip([deployed, *steps], steps, strict=False):
            self.assertLessEqual(count_index_changes(before, after)["Orders"], 1)

    def test_an_index_that_keeps_its_name_and_changes_is_refused(self) -> None:
        deployed, wanted = template({"a": "x"}, "old"), template({"a": "x"}, "new")
        wanted["Resources"]["Orders"]["Properties"]["GlobalSecondaryIndexes"][0]["Projection"] = {
            "ProjectionType": "ALL"
        }
        with self.assertRaisesRegex(StackError, "index a of Orders has another Projection"):
            plan_deployments(deployed, wanted)


if __name__ == "__main__":
    unittest.main()
