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


def adapt_mappings(url: str) -> None:
    """MiniStack's CloudFormation keeps the text of a parameter where a number belongs. Its poller then fails to compare
    the two, and no message reaches a consumer. And a mapping that it changes from a function to its alias goes on to
    feed the function, whatever it says of itself."""
    functions = aws.create_client("lambda", url)
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        concurrency = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
        if concurrency is not None:
            functions.update_event_source_mapping(
                UUID=mapping["UUID"],
                FunctionName=mapping["FunctionArn"],
                ScalingConfig={"MaximumConcurrency": int(concurrency)},
            )


def adapt_grants(url: str) -> None:
    """Writes the template's grants anew where MiniStack does not understand them as AWS does."""
    iam = aws.create_client("iam", url)
    for role in (role["RoleName"] for role in iam.list_roles()["Roles"]):
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            # A copy, because grants are added on the way.
            for statement in list(document["Statement"]):
                if "dynamodb:PartiQLUpdate" in statement["Action"]:
                    # It asks for the call, on all tables; AWS asks for each statement, on its table.
                    document["Statement"].append(
                        {"Effect": "Allow", "Action": "dynamodb:BatchExecuteStatement", "Resource": "*"}
                    )
                if statement["Action"] == "sns:Publish":
                    # AWS has no such action as PublishBatch; there, sns:Publish allows both calls.
                    statement["Action"] = ["sns:Publish", "sns:PublishBatch"]
                if statement["Action"] == "ses:SendEmail":
                    # It knows neither the identity nor the sender of a mail.
                    statement["Resource"] = "*"
                    statement.pop("Condition", None)
            iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def adapt_topic_policy(url: str, topic: str) -> None:
    """Writes the topic's policy anew with the sessions of the roles that it names. On AWS aws:PrincipalArn of a
    function is its role; MiniStack takes the session for it, whose name differs each time."""
    sns = aws.create_client("sns", url)
    policy = json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
    for statement in policy["Statement"]:
        principals = statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"]
        roles = [arn for arn in principals if ":role/" in arn]
        sessions = [f"{arn.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/*" for arn in roles]
        statement["Condition"]["ArnNotEquals"]["aws:PrincipalArn"] = roles + sessions
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
