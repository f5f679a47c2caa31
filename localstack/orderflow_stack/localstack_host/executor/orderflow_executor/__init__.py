"""Runs Lambda functions as processes of this machine, for a LocalStack that has no Docker.

LocalStack loads lambda_plugin.py and dynamodb_plugin.py; the other modules know nothing of it.
"""
