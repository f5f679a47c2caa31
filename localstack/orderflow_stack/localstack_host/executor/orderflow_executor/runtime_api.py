"""The Lambda Runtime API for one process, and what an extension inside of it needs of the Extensions API.

In: invocations from the executor, HTTP calls from the process. Out: the answers of the process.
Guarantees: an answer is taken once, and for the invocation that the process is busy with; it is idle again when its
extensions have asked for the next event, too; nobody waits for a process that has ended. The protocols:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

import json
import socketserver
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

PREFIX = "/2018-06-01/runtime"
EXTENSIONS_PREFIX = "/2020-01-01/extension"
# As many as AWS allows.
EXTENSIONS_MAX = 10


@dataclass(frozen=True)
class Invocation:
    """One event, as the function is to get it."""

    request_id: str
    payload: bytes
    function_arn: str
    trace_id: str


@dataclass(frozen=True)
class Answer:
    """What the function made of it."""

    payload: bytes
    is_error: bool = False


class RuntimeApi:
    """Serves one process from its start to its end, one invocation at a time."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self._changed = threading.Condition()
        self._idle = False
        self._ended = False
        self._pending: tuple[Invocation, int] | None = None
        self._current: str | None = None
        self._answer: Answer | None = None
        # Invocations that each extension has not heard of yet, and whether it asks for one.
        self._events: dict[str, list[tuple[Invocation, int]]] = {}
        self._idle_extensions: set[str] = set()
        self._has_begun = False
        self.init_error: bytes | None = None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """For AWS_LAMBDA_RUNTIME_API."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def has_extensions(self) -> bool:
        return bool(self._events)

    def wait_until_idle(self, timeout: float) -> bool:
        """Whether the process and all its extensions ask for an event: they are initialised, or done with the last one.
        False after the timeout, an init error, or the end of the process."""
        return self._wait(lambda: self._all_idle() or self.init_error is not None, timeout) and self._all_idle()

    def _all_idle(self) -> bool:
        return self._idle and len(self._idle_extensions) == len(self._events)

    def invoke(self, invocation: Invocation, timeout: float) -> Answer | None:
        """None after the timeout, of which the process is told, or the end of the process."""
        deadline_ms = int((time.time() + timeout) * 1000)
        with self._changed:
            self._answer, self._pending, self._has_begun = None, (invocation, deadline_ms), True
            for events in self._events.values():
                events.append((invocation, deadline_ms))
            # Not only once they have taken it: the runtime may have answered before they do.
            self._idle_extensions.clear()
            self._changed.notify_all()
        self._wait(lambda: self._answer is not None, timeout)
        return self._answer

    def end(self) -> None:
        """The process has ended: nobody waits any longer. To be called once."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def next(self) -> tuple[Invocation, int] | None:
        """Called by the process; blocks until there is an event. It comes with its deadline."""
        with self._changed:
            self._idle, self._current = True, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._pending is not None or self._ended)
            taken, self._pending = self._pending, None
            if taken is not None:
                self._idle, self._current = False, taken[0].request_id
            return taken

    def register_extension(self, event_types: list[str]) -> str | None:
        """Called by the process while it initialises. None if it may not: an extension inside of the process
        gets no other event than INVOKE."""
        with self._changed:
            if self._has_begun or event_types != ["INVOKE"] or len(self._events) == EXTENSIONS_MAX:
                return None
            identifier = str(uuid.uuid4())
            self._events[identifier] = []
            return identifier

    def next_of_extension(self, identifier: str) -> tuple[Invocation, int] | None:
        """Called by the process; blocks until there is an event for this extension. None at the end of the process, or
        if there is no such extension."""
        with self._changed:
            events = self._events.get(identifier)
            if events is None:
                return None
            self._idle_extensions.add(identifier)
            self._changed.notify_all()
            self._changed.wait_for(lambda: bool(events) or self._ended)
            if not events:
                return None
            self._idle_extensions.discard(identifier)
            return events.pop(0)

    def answer(self, request_id: str, answer: Answer) -> bool:
        """Called by the process. False if it was not asked that, or has answered already."""
        with self._changed:
            if request_id != self._current:
                return False
            self._current, self._answer = None, answer
            self._changed.notify_all()
            return True

    def fail_init(self, error: bytes) -> None:
        """Called by the process, when it cannot start to work."""
        with self._changed:
            self.init_error = error
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, timeout)
            return condition()


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server.HTTPServer: that one looks its own name up in the DNS.
    api: RuntimeApi
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A process that was killed in the middle of a call is no news to anybody."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Otherwise each answer waits some 40 ms for an acknowledgement of its headers.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == f"{EXTENSIONS_PREFIX}/event/next":
            self._send_event()
            return
        if self.path != f"{PREFIX}/invocation/next":
            self._send(HTTPStatus.NOT_FOUND)
            return
        taken = self.server.api.next()
        if taken is None:
            self.close_connection = True
            return
        invocation, deadline_ms = taken
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": invocation.trace_id,
        }
        self._send(HTTPStatus.OK, invocation.payload, headers)

    def _send_event(self) -> None:
        taken = self.server.api.next_of_extension(self.headers.get("Lambda-Extension-Identifier", ""))
        if taken is None:
            self.close_connection = True
            return
        invocation, deadline_ms = taken
        event = {
            "eventType": "INVOKE",
            "deadlineMs": deadline_ms,
            "requestId": invocation.request_id,
            "invokedFunctionArn": invocation.function_arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id},
        }
        self._send(HTTPStatus.OK, json.dumps(event).encode(), {"Content-Type": "application/json"})

    def do_POST(self) -> None:
        body = self._body()
        if self.path == f"{EXTENSIONS_PREFIX}/register":
            identifier = self.server.api.register_extension(json.loads(body)["events"])
            if identifier is None:
                self._send(HTTPStatus.FORBIDDEN)
            else:
                self._send(HTTPStatus.OK, b"{}", {"Lambda-Extension-Identifier": identifier})
            return
        match self.path.removeprefix(f"{PREFIX}/").split("/"):
            case ["invocation", request_id, "response"]:
                self._answer(request_id, Answer(body))
            case ["invocation", request_id, "error"]:
                self._answer(request_id, Answer(body, is_error=True))
            case ["init", "error"]:
                self.server.api.fail_init(body)
                self._send(HTTPStatus.ACCEPTED)
            case _:
                self._send(HTTPStatus.NOT_FOUND)

    def _answer(self, request_id: str, answer: Answer) -> None:
        known = self.server.api.answer(request_id, answer)
        self._send(HTTPStatus.ACCEPTED if known else HTTPStatus.BAD_REQUEST)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _send(self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        if status != HTTPStatus.OK:
            body = json.dumps({"status": status.phrase}).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """What matters is in the function's own log, so calls are not logged."""
