"""Tests LocalStack in Docker, as far as it goes without Docker: what `docker` is asked to do, and when.

A program of this name stands in for it: it notes how it was called; `up` serves the health check.
"""

import json
import os
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.emulator import RequestedSettings
from orderflow_stack.emulator_selection import select_emulator
from orderflow_stack.errors import StackError
from orderflow_stack.localstack_docker.emulator import LocalStackDocker, is_docker_wanted
from orderflow_stack.localstack_host.emulator import LocalStackHost
from orderflow_stack.state import State

DOCKER = """#!{python}
import http.server, json, os, sys
with open({calls!r}, "a") as calls:
    print(json.dumps([os.environ.get("PORT"), sys.argv[1:]]), file=calls)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/_localstack/health" else 404)
        self.end_headers()
if "up" in sys.argv:
    http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health).serve_forever()
sys.exit({status})
"""


class DockerTest(unittest.TestCase):
    """On a machine that has nothing on its PATH, until a test installs Docker."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.calls = self.directory / "calls"
        environment = mock.patch.dict(os.environ, {"PATH": str(self.directory / "bin")})
        environment.start()
        self.addCleanup(environment.stop)
        os.environ.pop("LOCALSTACK_MODE", None)

    def install_docker(self, daemon: bool) -> None:
        docker = self.directory / "bin" / "docker"
        docker.parent.mkdir()
        status = 0 if daemon else 1
        docker.write_text(DOCKER.format(python=sys.executable, calls=str(self.calls), status=status))
        docker.chmod(0o755)

    def state(self, name: str = "one") -> State:
        return State(self.directory / name)

    def asked(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()]

    def test_docker_is_used_where_its_daemon_answers(self) -> None:
        self.assertIsInstance(select_emulator(self.state(), "localstack"), LocalStackHost)
        self.install_docker(daemon=True)
        self.assertIsInstance(select_emulator(self.state(), "localstack"), LocalStackDocker)

    def test_a_docker_without_a_daemon_is_not_used(self) -> None:
        self.install_docker(daemon=False)
        self.assertIsInstance(select_emulator(self.state(), "localstack"), LocalStackHost)

    def test_the_mode_can_be_told(self) -> None:
        os.environ["LOCALSTACK_MODE"] = "docker"
        self.assertIsInstance(select_emulator(self.state(), "localstack"), LocalStackDocker)
        self.install_docker(daemon=True)
        os.environ["LOCALSTACK_MODE"] = "host"
        self.assertIsInstance(select_emulator(self.state(), "localstack"), LocalStackHost)
        os.environ["LOCALSTACK_MODE"] = "container"
        with self.assertRaisesRegex(StackError, "is container; it can be host or docker"):
            is_docker_wanted()

    def test_docker_mode_without_docker_says_what_is_missing(self) -> None:
        with self.assertRaisesRegex(StackError, "no Docker daemon answers.*LOCALSTACK_MODE=host"):
            LocalStackDocker(self.state()).ensure_started(RequestedSettings("localstack"))

    def test_a_stack_is_a_compose_project_from_its_start_to_its_end(self) -> None:
        self.install_docker(daemon=True)
        emulator = LocalStackDocker(self.state())
        # The server is meant to outlive whoever has started it.
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            emulator.ensure_started(RequestedSettings("localstack"))
        self.addCleanup(emulator.stop)
        port = emulator.settings.port
        self.assertTrue(emulator.is_running() and emulator.is_healthy(port))
        # Whatever Docker is wanted later, this stack is known to be in it.
        os.environ["LOCALSTACK_MODE"] = "host"
        self.assertIsInstance(select_emulator(self.state()), LocalStackDocker)

        self.assertTrue(emulator.stop())
        self.assertFalse(emulator.is_running())
        up, down = (call for call in self.asked() if "--project-name" in call[1])
        project = up[1][: up[1].index("up")]
        self.assertEqual(up[0], str(port))
        self.assertEqual(project[:2] + project[3:4], ["compose", "--project-name", "--file"])
        self.assertTrue(Path(project[4]).is_file())
        self.assertEqual(down[1], [*project, "down", "--volumes"])

    def test_what_a_killed_up_leaves_is_removed(self) -> None:
        self.install_docker(daemon=True)
        record = {"emulator": "localstack", "port": 1, "functions_endpoint": "http://127.0.0.1:1"}
        self.state().write("server", {"pid": 1, "docker": True, "settings": record})
        select_emulator(self.state()).stop()
        self.assertIn("down", self.asked()[-1][1])
        self.assertEqual(self.state().read("server"), {})

    def test_containers_that_stay_are_not_said_to_be_stopped(self) -> None:
        self.install_docker(daemon=False)
        self.state().write("server", {"pid": 1, "docker": True, "settings": {}})
        with self.assertRaisesRegex(StackError, "could not be removed"):
            LocalStackDocker(self.state()).stop()

    def test_a_killed_server_does_not_choose_the_next_emulator(self) -> None:
        self.state().write("server", {"pid": 1, "settings": {"emulator": "ministack"}})
        self.assertEqual(select_emulator(self.state()).name, "ministack")
        self.assertEqual(select_emulator(self.state(), "localstack").name, "localstack")

    def test_two_stacks_are_two_projects(self) -> None:
        one, other = (LocalStackDocker(self.state(name)).build_command() for name in ("one", "other"))
        self.assertNotEqual(one[3], other[3])


if __name__ == "__main__":
    unittest.main()
