"""The region and the credentials with which every emulator is called.

Guarantees: they are of no real account, so a call that went to AWS by mistake would be refused there.
"""

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
