"""Tests the life of a stack's localstripe with a small server in its place, and what is told to it.

Guarantees: nothing is installed or downloaded by it.
"""

import os
import signal
import sys
import tempfile
import time
import unittest
import warnings
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.cli import parse_arguments
from orderflow_stack.errors import StackError
from orderflow_stack.state import State
from orderflow_stack.stripe import server
from orderflow_stack.stripe.checkout import StripeCall, list_calls
from orderflow_stack.stripe.server import LOCALSTRIPE_ENVIRONMENT, LocalStripeEnvironment, StripeServer

# Answers as localstripe does without a key, and writes down what it is sent.
PROGRAM = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(401)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        print("got", self.path, body, flush=True)
        self.send_response(200)
        self.end_headers()
HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""
END_TIMEOUT_SECONDS = 5


class StripeServerTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.state = State(Path(directory.name) / "state")
        self.state.clear_tmp()
        self.environment = mock.Mock(program=lambda _: sys.executable)
        for name, value in (("LOCALSTRIPE_ENVIRONMENT", self.environment), ("PROGRAM", PROGRAM)):
            patch = mock.patch.object(server, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.server = StripeServer(self.state)
        self.addCleanup(self.server.stop)
        # It outlives the command that starts it, on purpose.
        self.enterContext(warnings.catch_warnings(action="ignore", category=ResourceWarning))

    def test_it_is_started_once_and_told_where_webhooks_go(self) -> None:
        self.server.ensure_started()
        first = self.state.read("stripe")
        # As a later command does, which knows it by its record.
        again = StripeServer(self.state)
        again.ensure_started()
        self.assertEqual(self.state.read("stripe"), first)
        self.environment.install_if_outdated.assert_called_once()
        again.send_webhooks_to("http://127.0.0.1:1/v1/payments/webhook")
        self.assertIn(
            "got /_config/webhooks/orderflow "
            "url=http%3A%2F%2F127.0.0.1%3A1%2Fv1%2Fpayments%2Fwebhook&secret=whsec_orderflow",
            self.server.log.read_text(),
        )

    def test_after_stop_it_is_gone_and_again_changes_nothing(self) -> None:
        self.server.ensure_started()
        self.assertTrue(self.server.is_running())
        for _ in range(2):
            self.server.stop()
            self.assertFalse(self.server.is_running())
            self.assertEqual(self.state.read("stripe"), {})

    def test_a_killed_one_is_started_anew_and_no_other_process_is_taken_for_it(self) -> None:
        self.server.ensure_started()
        os.kill(self.state.read("stripe")["pid"], signal.SIGKILL)
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        while self.server.is_running():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.server.ensure_started()
        self.server.send_webhooks_to("http://127.0.0.1:1")
        # The record of one that is gone may name the number of somebody else's process by now.
        self.server.stop()
        self.state.write("stripe", {"pid": os.getpid(), "port": 1})
        self.server.stop()

    def test_what_it_says_when_it_ends_at_once_is_shown(self) -> None:
        with (
            mock.patch.object(server, "PROGRAM", "import sys; sys.exit('no such module')"),
            self.assertRaisesRegex(StackError, "ended while starting:\nno such module"),
        ):
            self.server.ensure_started()
        self.assertFalse(self.server.is_running())


class StripeEnvironmentTest(unittest.TestCase):
    def test_what_the_protocol_s_tests_have_installed_is_not_installed_again(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            wanted = Path(directory) / "wanted.txt"
            wanted.write_text("localstripe==1\n")
            venv = Path(directory) / "localstripe" / "venv"
            environment = LocalStripeEnvironment(venv, wanted, "localstripe", has_hashes=False)
            self.assertFalse(environment.is_current())
            environment.program("python").parent.mkdir(parents=True)
            environment.program("python").touch()
            self.assertFalse(environment.is_current())
            # As tests/e2e/tests/stripe/run.sh does.
            (venv.parent / "requirements.txt").write_text(wanted.read_text())
            self.assertTrue(environment.is_current())
            wanted.write_text("localstripe==2\n")
            self.assertFalse(environment.is_current())

    def test_its_requirements_are_there(self) -> None:
        self.assertIn("localstripe==", LOCALSTRIPE_ENVIRONMENT.requirements.read_text())


class CheckoutTest(unittest.TestCase):
    def test_a_card_pays_the_payment_whose_secret_it_is(self) -> None:
        def answer(call: StripeCall) -> str:
            call.answer = {"id": "pm_1"}
            return ""

        with mock.patch.object(StripeCall, "send", answer):
            calls = []
            for call in list_calls("http://stripe", "pi_1_secret_abc"):
                call.send()
                calls.append(call)
        self.assertEqual(
            [call.url.removeprefix("http://stripe/v1/") for call in calls],
            ["payment_methods", "payment_intents/pi_1", "payment_intents/pi_1/confirm"],
        )
        self.assertEqual(calls[1].form, {"payment_method": "pm_1"})
        self.assertIn("-d 'card[number]=4242424242424242'", calls[0].format_curl_command())


class OptionsTest(unittest.TestCase):
    def test_who_does_not_ask_for_payments_leaves_them_as_they_are(self) -> None:
        self.assertIsNone(parse_arguments(["up"]).payments)
        self.assertEqual(parse_arguments(["up", "--payments", "stripe"]).payments, "stripe")


if __name__ == "__main__":
    unittest.main()
