"""Tests of which functions a deployment publishes a version."""

import copy
import sys
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.function_versions import mark_changes

TEMPLATE: dict[str, Any] = {
    "Parameters": {
        "LogLevel": {"Default": "info"},
        "Orders": {"Default": "none"},
        "Currency": {"Default": "UAH"},
        "Signer": {"Default": "first"},
        "Reserve": {"Default": 5},
    },
    "Conditions": {
        "Signed": {"Fn::And": [{"Condition": "Second"}, {"Fn::Equals": [{"Ref": "Orders"}, "none"]}]},
        "Second": {"Fn::Equals": [{"Ref": "Signer"}, "second"]},
    },
    "Globals": {"Function": {"Environment": {"Variables": {"LOG_LEVEL": {"Ref": "LogLevel"}}}}},
    "Resources": {
        "Api": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "CodeUri": "s3://code/api",
                "ReservedConcurrentExecutions": {"Ref": "Reserve"},
                "Environment": {
                    "Variables": {
                        "SECRET": {"Fn::If": ["Signed", {"Fn::Sub": "{{resolve:${Second}}}"}, "none"]},
                        "CURRENCY": {"Fn::Sub": "in ${Currency}"},
                    }
                },
            },
        },
        "Relay": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "s3://code/relay"}},
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "Currency"}}},
    },
}


def read_marks(template: dict[str, Any], **values: str) -> tuple[str, str]:
    resources = mark_changes(template, values)["Resources"]
    api, relay = (resources[name]["Properties"]["AutoPublishCodeSha256"] for name in ("Api", "Relay"))
    return api, relay


def changed(template: dict[str, Any] = TEMPLATE, **values: str) -> tuple[bool, bool]:
    """Whether the API, and whether the relay, would be published."""
    (api, relay), (new_api, new_relay) = read_marks(TEMPLATE), read_marks(template, **values)
    return api != new_api, relay != new_relay


class FunctionVersionsTest(unittest.TestCase):
    def test_nothing_is_published_if_nothing_changes(self) -> None:
        self.assertEqual(changed(), (False, False))
        self.assertEqual(changed(LogLevel="info", Reserve="5"), (False, False))
        # What is deployed has marks already.
        self.assertEqual(changed(mark_changes(TEMPLATE, {})), (False, False))

    def test_the_value_of_a_parameter_publishes_the_functions_that_have_it(self) -> None:
        self.assertEqual(changed(LogLevel="debug"), (True, True))
        self.assertEqual(changed(Currency="EUR"), (True, False))

    def test_a_parameter_of_a_condition_is_one_of_the_function_that_is_under_it(self) -> None:
        self.assertEqual(changed(Signer="second"), (True, False))
        self.assertEqual(changed(Orders="some"), (True, False))

    def test_what_is_no_part_of_a_version_publishes_none(self) -> None:
        self.assertEqual(changed(Reserve="6"), (False, False))

    def test_code_publishes_its_function_alone(self) -> None:
        template = copy.deepcopy(TEMPLATE)
        template["Resources"]["Relay"]["Properties"]["CodeUri"] = "s3://code/new"
        self.assertEqual(changed(template), (False, True))

    def test_nothing_else_of_the_template_is_changed(self) -> None:
        marked = mark_changes(TEMPLATE, {})
        for name in ("Api", "Relay"):
            del marked["Resources"][name]["Properties"]["AutoPublishCodeSha256"]
        self.assertEqual(marked, TEMPLATE)


if __name__ == "__main__":
    unittest.main()
