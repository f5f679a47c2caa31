"""Runs Lambda functions as processes of this machine, for a LocalStack that has no Docker.

plugins.py is what LocalStack loads; the other modules know nothing of LocalStack.
"""
