"""One execution environment of a function: a process that is started when needed and kept warm.

In: a function, and one invocation after the other. Out: for each its answer and its log.
Guarantees: each invocation gets a result, also where the process crashes, hangs or does not start; after that the
next one gets a new process.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orderflow_executor.process import FunctionProcess
from orderflow_executor.runtime_api import Answer, Invocation, RuntimeApi

# AWS gives a function as long to initialise.
INIT_TIMEOUT_SECONDS = 10.0
# After its answer a function asks for the next event at once. What it prints until then belongs to
# this answer's log.
SETTLE_TIMEOUT_SECONDS = 1.0
# Of a hundred environments that are wanted at once, most would use up that time waiting for a core.
_initialising = threading.BoundedSemaphore(os.cpu_count() or 1)


@dataclass(frozen=True)
class Function:
    """What is run: `bootstrap` in the directory `code`, with these environment variables."""

    code: Path
    variables: Mapping[str, str]
    timeout_seconds: float
    memory_mb: int = 128
    version: str = "$LATEST"


@dataclass(frozen=True)
class Result:
    """An invocation's answer and its log, with the lines that AWS puts around it."""

    payload: bytes
    is_error: bool
    log: str


class Environment:
    """Takes one invocation at a time. A process that has failed is replaced at the next one, as on
    AWS; what it printed is in the log of the invocation that met the failure."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._invoking = False
        self._stopped = False
        self._api: RuntimeApi | None = None
        self._process: FunctionProcess | None = None

    def invoke(self, invocation: Invocation) -> Result:
        with self._lock:
            self._invoking = True
        try:
            return self._invoke(invocation)
        finally:
            with self._lock:
                self._invoking = False
                stopped = self._stopped
            if stopped:
                self._discard()

    def stop(self) -> None:
        """Ends the process: at once, or after the invocation that it is busy with."""
        with self._lock:
            self._stopped = True
            busy = self._invoking
        if not busy:
            self._discard()

    def _invoke(self, invocation: Invocation) -> Result:
        warm = self._find_warm_process()
        with contextlib.nullcontext() if warm else _initialising:
            api, process = warm or self._launch()
            initialised = api.wait_until_idle(INIT_TIMEOUT_SECONDS)
        before = _split_lines(process.take_output())
        begun = time.monotonic()
        answer = api.invoke(invocation, self._function.timeout_seconds) if initialised else None
        seconds = time.monotonic() - begun
        if answer:
            self._settle(api, process, self._function.timeout_seconds - seconds)
            output = _split_lines(process.take_output())
        else:
            answer = self._give_up(api, process, initialised)
            output = [*_split_lines(process.take_output()), answer.payload.decode(errors="replace")]
        log = self._format_log(invocation.request_id, before, output, seconds)
        return Result(answer.payload, answer.is_error, log)

    def _settle(self, api: RuntimeApi, process: FunctionProcess, seconds_left: float) -> None:
        """Waits for what the process does after its answer. The work of an extension is a part of the invocation: one
        that uses up the function's time costs the environment, and not the answer. On AWS the caller has it before."""
        if not api.has_extensions:
            api.wait_until_idle(SETTLE_TIMEOUT_SECONDS)
        elif not api.wait_until_idle(max(seconds_left, 0)) and process.running:
            self._discard()

    def _give_up(self, api: RuntimeApi, process: FunctionProcess, initialised: bool) -> Answer:
        """Says why there is no answer, and makes the next invocation start another process."""
        timed_out = process.running
        self._discard()
        if api.init_error is not None:
            return Answer(api.init_error, is_error=True)
        if timed_out:
            limit = self._function.timeout_seconds if initialised else INIT_TIMEOUT_SECONDS
            return _build_error("Sandbox.Timedout", f"Task timed out after {limit:.2f} seconds")
        ending = process.describe_end()
        return _build_error("Runtime.ExitError", f"Runtime exited with error: {ending}")

    def _format_log(self, request_id: str, before: list[str], output: list[str], seconds: float) -> str:
        lines = [
            *before,
            f"START RequestId: {request_id} Version: {self._function.version}",
            *output,
            f"END RequestId: {request_id}",
            f"REPORT RequestId: {request_id}\tDuration: {seconds * 1000:.2f} ms\t"
            f"Memory Size: {self._function.memory_mb} MB",
        ]
        return "".join(f"{line}\n" for line in lines)

    def _find_warm_process(self) -> tuple[RuntimeApi, FunctionProcess] | None:
        if self._api and self._process and self._process.running:
            return self._api, self._process
        return None

    def _launch(self) -> tuple[RuntimeApi, FunctionProcess]:
        api = RuntimeApi()
        variables = {**self._function.variables, "AWS_LAMBDA_RUNTIME_API": api.address}
        program = self._function.code / "bootstrap"
        process = FunctionProcess(program, variables, on_end=api.end)
        self._api, self._process = api, process
        return api, process

    def _discard(self) -> None:
        process, self._process, self._api = self._process, None, None
        if process:
            process.kill()


def _split_lines(output: str) -> list[str]:
    # Not splitlines(): JSON may hold other characters that Python takes for the end of a line.
    return output.removesuffix("\n").split("\n") if output else []


def _build_error(error_type: str, message: str) -> Answer:
    payload = {"errorType": error_type, "errorMessage": message}
    return Answer(json.dumps(payload).encode(), is_error=True)
