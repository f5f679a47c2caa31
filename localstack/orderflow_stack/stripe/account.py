"""What a stack whose orders are paid has to know of Stripe: parameters of the template, and a secret in the emulator.

In: a running emulator, and where functions find localstripe. Out: the values of the template's parameters.
Needs boto3, so it is imported inside .local/venv only.
"""

import json
from typing import Any

from orderflow_stack import aws
from orderflow_stack.emulator import Emulator
from orderflow_stack.stripe.server import API_KEY, WEBHOOK_SECRET

SECRET_NAME = "orderflow-stripe"


def prepare_account(emulator: Emulator, endpoint: str) -> dict[str, str]:
    """Makes the secret, unless it is there. On AWS the shop's owner makes it by hand."""
    secrets = aws.create_client("secretsmanager", emulator.url)
    return {"StripeSecretArn": _ensure_secret(secrets), "StripeEndpoint": endpoint}


def _ensure_secret(secrets: Any) -> str:
    value = json.dumps({"api_key": API_KEY, "webhook_secrets": [WEBHOOK_SECRET]})
    try:
        arn: str = secrets.create_secret(Name=SECRET_NAME, SecretString=value)["ARN"]
    except secrets.exceptions.ResourceExistsException:
        arn = secrets.describe_secret(SecretId=SECRET_NAME)["ARN"]
    return arn
