"""Checks the Python code and infra/template.yaml with the pinned ruff, mypy and cfn-lint.

The first time they are installed into .local/python-checks.

    python3 localstack/check.py            says what is wrong
    python3 localstack/check.py --fix      formats Python, and mends what ruff can mend

It is a part of `make check`; localstack/pyproject.toml says what is checked of Python.
"""

from orderflow_stack.development_tools.python_checks import main

if __name__ == "__main__":
    main()
