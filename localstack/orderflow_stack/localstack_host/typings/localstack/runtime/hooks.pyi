"""The decorator of functions that LocalStack calls while it starts."""

from collections.abc import Callable

def on_infra_start() -> Callable[[Callable[[], None]], Callable[[], None]]: ...
