"""Lets LocalStack use the DynamoDB Local that is installed; by itself it downloads one, and a JDK.

In: ORDERFLOW_DYNAMODB_LOCAL in the server's environment, the directory of DynamoDBLocal.jar. Out: another command line
for it. Guarantees: nothing is downloaded; DynamoDB Local ends with LocalStack, and writes nothing into /tmp.
"""

import os
import tempfile

from localstack.runtime import hooks


@hooks.on_infra_start()
def use_installed_dynamodb_local() -> None:
    """It is run by the `java` on the PATH, and dies with LocalStack."""
    # Not at the top: LocalStack imports this file before it has set itself up.
    from localstack.services.dynamodb.packages import DynamoDBLocalPackageInstaller as Installer
    from localstack.services.dynamodb.server import DynamodbServer

    from orderflow_executor.process import tie_to_this_process

    directory = os.environ["ORDERFLOW_DYNAMODB_LOCAL"]
    original = DynamodbServer._create_shell_command

    def create_shell_command(self: DynamodbServer) -> list[str]:
        # The agent is LocalStack's own, for tables with more than twenty indexes.
        java, *parts = [part for part in original(self) if not part.startswith("-javaagent:")]
        # Java does not ask for TMPDIR; the other file it would write into /tmp is for profilers.
        scratch = [f"-Djava.io.tmpdir={tempfile.gettempdir()}", "-XX:-UsePerfData"]
        return tie_to_this_process([java, *scratch, *parts])

    # LocalStack has no setting for these, so its methods are replaced.
    Installer.get_installed_dir = lambda self: directory  # type: ignore[method-assign]
    Installer.get_java_env_vars = lambda self: {}  # type: ignore[method-assign]
    DynamodbServer._create_shell_command = create_shell_command  # type: ignore[method-assign]
