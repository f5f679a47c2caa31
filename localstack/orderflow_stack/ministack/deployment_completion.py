"""Does after a deployment what MiniStack's CloudFormation leaves out, or understands otherwise than AWS does.

In: the server's URL and outputs of the deployed stack. Out: changed resources in that server.
Guarantees: it may be done again after each deployment.
"""

import json

from orderflow_stack import aws


def enable_expiry(url: str, table: str) -> None:
    """MiniStack's CloudFormation accepts TimeToLiveSpecification and does nothing."""
    aws.create_client("dynamodb", url).update_time_to_live(
        TableName=table, TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": True}
    )


def adapt_grants(url: str) -> None:
    """Writes the template's grants anew where MiniStack does not understand them as AWS does."""
    iam = aws.create_client("iam", url)
    for role in (role["RoleName"] for role in iam.list_roles()["Roles"]):
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            for statement in document["Statement"]:
                if statement["Action"] == "sns:Publish":
                    # AWS has no such action as PublishBatch; there, sns:Publish allows both calls.
                    statement["Action"] = ["sns:Publish", "sns:PublishBatch"]
                if statement["Action"] == "ses:SendEmail":
                    # It knows neither the identity nor the sender of a mail.
                    statement["Resource"] = "*"
                    statement.pop("Condition", None)
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def close_topic(url: str, topic: str) -> None:
    """Gives it the policy of a new topic on AWS. That of MiniStack's CloudFormation lets everybody publish."""
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
    aws.create_client("sns", url).set_topic_attributes(
        TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy)
    )
