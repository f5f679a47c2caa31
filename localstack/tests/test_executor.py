"""Tests the executor without LocalStack: a small function, written in Python, is run in an Environment.

`python3 -m unittest discover localstack/tests` runs this and the other tests that need no stack.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from orderflow_stack.localstack_host.emulator import EXECUTOR

# The plugin is a package of its own, which LocalStack imports from there.
sys.path.insert(0, str(EXECUTOR))

from orderflow_executor import environment
from orderflow_executor.environment import Environment, Function, Result
from orderflow_executor.runtime_api import Answer, Invocation, RuntimeApi

# Does what its event says. It speaks to the Runtime API as a function's runtime would.
BOOTSTRAP = """#!{python}
import http.client, json, os, sys, threading, time
print("initialising", flush=True)
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None, **options):
    api.request(method, "/2018-06-01/runtime" + path, body, **options)
    response = api.getresponse()
    return response.status, response.headers, response.read()
def extension(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request(method, "/2020-01-01/extension" + path, body, headers=headers)
    response = connection.getresponse()
    return response.status, response.headers, response.read()
def work_after_answers(identifier):
    while True:
        _, _, body = extension("GET", "/event/next", **{{"Lambda-Extension-Identifier": identifier}})
        time.sleep(float(os.environ["EXTENSION"]))
        print("extension:", body.decode(), flush=True)
if "EXTENSION" in os.environ:
    events = json.dumps(dict(events=[os.environ.get("EVENT", "INVOKE")]))
    status, headers, _ = extension("POST", "/register", events, **{{"Lambda-Extension-Name": "after-answer"}})
    if status == 200:
        threading.Thread(target=work_after_answers, args=[headers["Lambda-Extension-Identifier"]], daemon=True).start()
    else:
        print("refused with", status, flush=True)
if os.environ.get("INIT") == "error":
    call("POST", "/init/error", b'{{"errorType":"Broken","errorMessage":"no configuration"}}')
    sys.exit(1)
if os.environ.get("INIT") == "exit":
    sys.exit(3)
if os.environ.get("INIT") == "hang":
    time.sleep(60)
while True:
    status, headers, body = call("GET", "/invocation/next")
    event, invocation = json.loads(body), "/invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    for line in event.get("print", []):
        print(line, flush=True)
    if "touch" in event:
        open(event["touch"], "w").close()
    time.sleep(event.get("sleep", 0))
    match event["do"]:
        case "answer":
            answer = dict(headers=dict(headers), pid=os.getpid(), variables=dict(os.environ))
            call("POST", invocation + "/response", json.dumps(answer).encode())
        case "answer in chunks":
            call("POST", invocation + "/response", iter([b"[1,", b"2]"]), encode_chunked=True)
        case "fail":
            call("POST", invocation + "/error", b'{{"errorType":"Oops"}}')
        case "answer wrongly":
            status, _, _ = call("POST", "/invocation/another/response", b"{{}}")
            call("POST", invocation + "/response", str(status).encode())
        case "exit":
            sys.exit(7)
        case "exit after the answer":
            call("POST", invocation + "/response", b"1")
            print("good bye", flush=True)
            sys.exit(0)
    print("done", flush=True)
"""


class ExecutorTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.code = Path(directory.name)
        bootstrap = self.code / "bootstrap"
        bootstrap.write_text(BOOTSTRAP.format(python=sys.executable))
        bootstrap.chmod(0o755)

    def environment(self, timeout: float = 10, **variables: str) -> Environment:
        made = Environment(Function(self.code, variables, timeout, memory_mb=256))
        self.addCleanup(made.stop)
        return made

    def test_the_answer_comes_back_and_the_event_with_its_context_got_there(self) -> None:
        before = time.time()
        answer = self.answer(self.environment(NAME="value"))
        headers = answer["headers"]
        self.assertEqual(headers["Lambda-Runtime-Aws-Request-Id"], "request-1")
        self.assertEqual(headers["Lambda-Runtime-Invoked-Function-Arn"], "arn:function")
        self.assertEqual(headers["Lambda-Runtime-Trace-Id"], "Root=1")
        deadline = int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000
        self.assertAlmostEqual(deadline, before + 10, delta=3)
        self.assertEqual(answer["variables"]["NAME"], "value")

    def test_a_function_sees_nothing_of_the_server_s_environment(self) -> None:
        os.environ["SECRET_OF_THE_SERVER"] = "1"
        self.addCleanup(os.environ.pop, "SECRET_OF_THE_SERVER")
        self.assertNotIn("SECRET_OF_THE_SERVER", self.answer(self.environment())["variables"])

    def test_a_process_is_used_again(self) -> None:
        warm = self.environment()
        self.assertEqual(self.answer(warm)["pid"], self.answer(warm)["pid"])

    def test_an_answer_may_come_in_chunks(self) -> None:
        result = invoke(self.environment(), do="answer in chunks")
        self.assertEqual((result.payload, result.is_error), (b"[1,2]", False))

    def test_an_error_of_the_function_is_its_answer_and_the_process_stays(self) -> None:
        warm = self.environment()
        pid = self.answer(warm)["pid"]
        result = invoke(warm, do="fail")
        self.assertEqual((result.payload, result.is_error), (b'{"errorType":"Oops"}', True))
        self.assertEqual(self.answer(warm)["pid"], pid)

    def test_an_answer_to_another_request_is_refused(self) -> None:
        self.assertEqual(invoke(self.environment(), do="answer wrongly").payload, b"400")

    def test_the_log_is_complete_and_one_line_an_event(self) -> None:
        many = [f"line {number}" for number in range(5000)]
        warm = self.environment()
        lines = invoke(warm, do="answer", print=many).log.splitlines()
        start, end, report = "START RequestId: request-1 ", "END RequestId: request-1", "REPORT "
        self.assertEqual(lines[0], "initialising")
        self.assertTrue(lines[1].startswith(start))
        self.assertEqual(lines[2:-2], [*many, "done"])
        self.assertEqual(lines[-2], end)
        self.assertTrue(lines[-1].startswith(report))
        again = invoke(warm, do="answer", print=["a", "", "b\u2028c"]).log.split("\n")
        self.assertTrue(again[0].startswith(start))
        self.assertEqual(again[1:-3], ["a", "", "b\u2028c", "done"])

    def test_init_error(self) -> None:
        result = invoke(self.environment(INIT="error"), do="answer")
        self.assertTrue(result.is_error)
        self.assertEqual(json.loads(result.payload)["errorType"], "Broken")
        self.assertIn("initialising", result.log)

    def test_exit_while_initialising(self) -> None:
        result = invoke(self.environment(INIT="exit"), do="answer")
        self.check_error(result, "Runtime.ExitError", "exit status 3")
        self.assertIn("initialising", result.log)

    def test_hanging_while_initialising(self) -> None:
        self.addCleanup(setattr, environment, "INIT_TIMEOUT_SECONDS", environment.INIT_TIMEOUT_SECONDS)
        environment.INIT_TIMEOUT_SECONDS = 0.5
        self.check_error(invoke(self.environment(INIT="hang"), do="answer"), "Sandbox.Timedout", "0.50 seconds")

    def test_a_bootstrap_that_cannot_be_run(self) -> None:
        (self.code / "bootstrap").unlink()
        result = invoke(self.environment(), do="answer")
        self.check_error(result, "Runtime.ExitError", "exit status 1")
        self.assertIn("No such file", result.log)

    def test_a_crash_is_an_error_and_the_next_event_gets_a_new_process(self) -> None:
        crashing = self.environment()
        pid = self.answer(crashing)["pid"]
        result = invoke(crashing, do="exit", print=["last words"])
        self.check_error(result, "Runtime.ExitError", "exit status 7")
        self.assertIn("last words", result.log)
        self.assertIn("exit status 7", result.log)
        self.assertNotEqual(self.answer(crashing)["pid"], pid)

    def test_the_end_after_an_answer_does_not_spoil_it(self) -> None:
        ending = self.environment()
        result = invoke(ending, do="exit after the answer")
        self.assertEqual((result.payload, result.is_error), (b"1", False))
        self.assertIn("good bye", result.log)
        self.answer(ending)

    def test_a_timeout_kills_the_process(self) -> None:
        slow = self.environment(timeout=1)
        pid = self.answer(slow)["pid"]
        result = invoke(slow, do="answer", sleep=30, print=["before"])
        self.check_error(result, "Sandbox.Timedout", "timed out after 1.00 seconds")
        self.assertIn("before", result.log)
        self.assertFalse(alive(pid))
        self.assertNotEqual(self.answer(slow)["pid"], pid)

    def test_an_invocation_is_over_when_its_extension_has_asked_for_the_next_event(self) -> None:
        warm = self.environment(EXTENSION="0.3")
        for _ in range(2):
            result = invoke(warm, do="answer")
            self.assertFalse(result.is_error, result.payload)
            lines = result.log.splitlines()
            [event] = [line.removeprefix("extension: ") for line in lines if line.startswith("extension: ")]
            self.assertEqual(json.loads(event)["eventType"], "INVOKE")
            self.assertEqual(json.loads(event)["requestId"], "request-1")
            self.assertGreater(json.loads(event)["deadlineMs"], time.time() * 1000)

    def test_an_extension_that_uses_up_the_time_costs_the_environment_and_not_the_answer(self) -> None:
        slow = self.environment(timeout=1, EXTENSION="30")
        begun = time.monotonic()
        pid = self.answer(slow)["pid"]
        self.assertLess(time.monotonic() - begun, 10)
        self.assertFalse(alive(pid))
        self.assertNotEqual(self.answer(slow)["pid"], pid)

    def test_an_extension_that_has_not_taken_its_event_yet_is_not_done_with_it(self) -> None:
        api = RuntimeApi()
        self.addCleanup(api.end)
        identifier = api.register_extension(["INVOKE"])
        assert identifier
        asking = threading.Thread(target=api.next_of_extension, args=[identifier])
        with api._changed:
            # It asks, and its thread cannot go on before the runtime has answered and asked again.
            api._idle_extensions.add(identifier)
        invocation = Invocation("request-1", b"{}", "arn:function", "Root=1")
        self.assertIsNone(api.invoke(invocation, 0))
        self.assertIsNotNone(api.next())
        self.assertTrue(api.answer("request-1", Answer(b"{}", is_error=False)))
        threading.Thread(target=api.next, daemon=True).start()
        self.assertFalse(api.wait_until_idle(0.2))
        asking.start()
        asking.join(5)
        self.assertFalse(api.wait_until_idle(0.2), "it has taken its event, and works")

    def test_an_extension_inside_of_the_process_is_not_told_of_the_shutdown(self) -> None:
        result = invoke(self.environment(EXTENSION="0", EVENT="SHUTDOWN"), do="answer")
        self.assertFalse(result.is_error, result.payload)
        self.assertIn("refused with 403", result.log)

    def test_environments_work_in_parallel(self) -> None:
        environments = [self.environment() for _ in range(4)]
        for each in environments:
            self.answer(each)
        begun = time.monotonic()
        threads = [
            threading.Thread(target=invoke, args=[each], kwargs={"do": "answer", "sleep": 0.5}) for each in environments
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertLess(time.monotonic() - begun, 1.5)

    def test_stop_ends_an_idle_process_at_once(self) -> None:
        idle = self.environment()
        pid = self.answer(idle)["pid"]
        idle.stop()
        self.assertFalse(alive(pid))

    def test_stop_lets_an_invocation_finish(self) -> None:
        busy = self.environment()
        pid = self.answer(busy)["pid"]
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.append(invoke(busy, do="answer", touch="begun", sleep=0.5)))
        thread.start()
        self.assertTrue(eventually((self.code / "begun").exists), "the invocation has begun")
        busy.stop()
        thread.join()
        self.assertEqual(json.loads(results[0].payload)["pid"], pid)
        self.assertFalse(alive(pid))

    @unittest.skipUnless(sys.platform == "linux", "only Linux can do this")
    def test_functions_do_not_outlive_a_killed_server(self) -> None:
        program = (
            "import sys, time; sys.path[:0] = sys.argv[1:3]; import test_executor as t;"
            "from pathlib import Path; e = t.Environment(t.Function(Path(sys.argv[3]), {}, 9));"
            "import json; print(json.loads(t.invoke(e, do='answer').payload)['pid'], flush=True);"
            "time.sleep(60)"
        )
        paths = [str(Path(__file__).parent), str(EXECUTOR), str(self.code)]
        with subprocess.Popen([sys.executable, "-c", program, *paths], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            self.assertTrue(alive(pid))
            server.send_signal(signal.SIGKILL)
        self.assertTrue(eventually(lambda: not alive(pid)))

    def answer(self, environment: Environment) -> dict[str, Any]:
        result = invoke(environment, do="answer")
        self.assertFalse(result.is_error, result.payload)
        answer: dict[str, Any] = json.loads(result.payload)
        return answer

    def check_error(self, result: Result, error_type: str, message: str) -> None:
        self.assertTrue(result.is_error)
        error = json.loads(result.payload)
        self.assertEqual(error["errorType"], error_type)
        self.assertIn(message, error["errorMessage"])


def invoke(environment: Environment, **event: Any) -> Result:
    return environment.invoke(Invocation("request-1", json.dumps(event).encode(), "arn:function", "Root=1"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # Until its parent has asked for it, an ended process is still listed.
    return not stat.exists() or ") Z " not in stat.read_text()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    unittest.main()
