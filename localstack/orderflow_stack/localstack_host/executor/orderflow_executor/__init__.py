"""Runs Lambda functions as processes of this machine, for a LocalStack that has no Docker.

LocalStack loads lambda_plugin.py and dynamodb_plugin.py, which entry_points.txt names; the other modules know nothing
of it. It runs in LocalStack's own virtual environment, so it imports neither orderflow_stack nor anything that is not
in LocalStack or the standard library.
"""
