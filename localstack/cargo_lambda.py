"""Runs the pinned cargo-lambda; the first time it is installed into .local/cargo-lambda.

    python3 localstack/cargo_lambda.py deploy FUNCTION --binary-name BINARY ...

The end-to-end tests deploy one function by it, as a developer would.
"""

from orderflow_stack.development_tools.cargo_lambda import main

if __name__ == "__main__":
    main()
