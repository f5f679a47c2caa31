"""The plugin by which LocalStack finds an executor."""

class RuntimeExecutorPlugin:
    name: str
    def load(self, *args: object, **kwargs: object) -> object: ...
