"""MiniStack, the default emulator: a Python package, no Docker, no account, state in memory."""

import json
import os
from typing import Any

from orderflow_stack.emulator import REGION, Emulator, Settings
from orderflow_stack.virtual_environment import program


class MiniStack(Emulator):
    """A `ministack` server."""

    name = "ministack"

    def command(self) -> list[str]:
        return [str(program("ministack"))]

    def environment(self, settings: Settings) -> dict[str, str]:
        # Made from nothing, because every function inherits all of it.
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            # Nobody's dotfiles, and no scratch files outside of the state directory.
            "HOME": str(self.state.tmp),
            "TMPDIR": str(self.state.tmp),
            "STATE_DIR": str(self.state.tmp),
            "GATEWAY_PORT": str(settings.port),
            # Its default is every interface of the machine.
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            # What it hands to the functions; without it they would call AWS.
            "AWS_ENDPOINT_URL": settings.functions_endpoint,
            # Two servers on fixed ports that nothing here needs.
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
        }

    def health_path(self) -> str:
        return "/_ministack/health"

    def api_url(self, api_id: str, stage: str) -> str:
        return f"{self.url}/restapis/{api_id}/{stage}/_user_request_"

    def mails_url(self) -> str:
        return f"{self.url}/_ministack/ses/messages"

    def template_parameters(self) -> dict[str, str]:
        return {"GatewayResponses": "resources"}

    def complete(self, outputs: dict[str, str]) -> None:
        from orderflow_stack import aws  # not at the top: `down` does without the venv

        # Its CloudFormation accepts TimeToLiveSpecification and does nothing.
        aws.client("dynamodb", self.url).update_time_to_live(
            TableName=outputs["IdempotencyTable"],
            TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True},
        )
        if self.settings.server_env.get("AUTH") == "true":
            _adapt_grants(aws.client("iam", self.url))
            _close_topic(aws.client("sns", self.url), outputs["TopicArn"])


def _adapt_grants(iam: Any) -> None:
    """Says the template's grants again where it does not understand them as AWS does."""
    for role in (role["RoleName"] for role in iam.list_roles()["Roles"]):
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            for statement in document["Statement"]:
                if statement["Action"] == "sns:Publish":
                    # AWS has no such action; the one above allows both calls.
                    statement["Action"] = ["sns:Publish", "sns:PublishBatch"]
                if statement["Action"] == "ses:SendEmail":
                    # It knows neither the identity nor the sender of a mail.
                    statement["Resource"] = "*"
                    statement.pop("Condition", None)
            iam.put_role_policy(
                RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document)
            )


def _close_topic(sns: Any, topic: str) -> None:
    """Gives it the policy of a new topic on AWS. That of its own CloudFormation lets everybody publish."""
    policy = {
        "Version": "2008-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["SNS:Publish", "SNS:Subscribe"],
                "Resource": topic,
                "Condition": {"StringEquals": {"AWS:SourceOwner": topic.split(":")[4]}},
            }
        ],
    }
    sns.set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy)
    )
