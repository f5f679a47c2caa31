"""The server of the example storefront, as a process of a stack.

In: the directory of a stack (`State`). Out: a server that answers (`background_process`).
Guarantees: it listens on 127.0.0.1; it keeps its port while the stack runs, because the API is called by pages of this
origin alone. Works with the standard library alone, because `down` must.
"""

import sys
from pathlib import Path

from orderflow_stack.background_process import BackgroundProcess
from orderflow_stack.paths import REPOSITORY
from orderflow_stack.ports import HOST, claim_port, is_in_use

FOLDER = REPOSITORY / "examples" / "storefront"
DEFAULT_PORT = 8080


class StorefrontServer(BackgroundProcess):
    """A process of `orderflow_stack.storefront.pages`. Its URL is the origin of its pages."""

    name = "storefront"
    program = "storefront"
    start_timeout_seconds = 10

    def ensure_started(self, any_port: bool) -> None:
        """At its port of the last time, or at 8080 if that is free, or at any."""
        if self.is_running():
            return
        wanted = self.state.read(self.name).get("port", DEFAULT_PORT)
        with claim_port(0 if any_port or is_in_use(wanted) else wanted, None) as port:
            command = [
                *(sys.executable, "-m", "orderflow_stack.storefront.pages"),
                *(str(FOLDER), str(self.state.env_file), HOST, str(port)),
            ]
            environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
            self._start(command, environment, port)

    def _answers(self) -> bool:
        return is_in_use(self.state.read(self.name)["port"])
