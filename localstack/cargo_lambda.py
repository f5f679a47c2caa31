"""Runs the pinned cargo-lambda: `python3 localstack/cargo_lambda.py deploy FUNCTION ...`."""

from orderflow_stack.development_tools import cargo_lambda

if __name__ == "__main__":
    cargo_lambda.main()
