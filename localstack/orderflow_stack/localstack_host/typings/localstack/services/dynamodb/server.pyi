"""What starts DynamoDB Local; the plugin replaces its command line."""

class DynamodbServer:
    def _create_shell_command(self) -> list[str]: ...
