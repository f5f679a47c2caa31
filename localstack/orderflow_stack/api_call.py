"""One call of Orderflow's HTTP API: sends it, or shows the `curl` command that does the same.

In: method, URL, body, and by whom it is to be signed. Out: status and body of the answer.
Guarantees: an answer of any status is an `ApiAnswer`; its numbers stay text, so that 5000.00 is not taken for 5000.
"""

import json
import shlex
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from orderflow_stack.credentials import CREDENTIALS, REGION
from orderflow_stack.errors import StackError

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Signer:
    """Who signs the calls that are for administrators."""

    key: str
    secret: str
    token: str | None
    region: str
    # Whether a command that is shown may have them in it.
    shows_credentials: bool

    def sign(self, request: AWSRequest) -> None:
        SigV4Auth(Credentials(self.key, self.secret, self.token), "execute-api", self.region).add_auth(request)

    def format_curl_options(self) -> list[str]:
        user = f"{self.key}:{self.secret}" if self.shows_credentials else '"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"'
        token = [] if self.token is None else ["-H", '"x-amz-security-token: $AWS_SESSION_TOKEN"']
        return ["--aws-sigv4", f'"aws:amz:{self.region}:execute-api"', "--user", user, *token]


# With what every emulator is called.
OF_EMULATOR = Signer(
    CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], None, REGION, shows_credentials=True
)


@dataclass(frozen=True)
class ApiAnswer:
    """What came back."""

    status: int
    body: str

    def __getitem__(self, field: str) -> Any:
        value = json.loads(self.body, parse_float=str, parse_int=str)
        if not isinstance(value, dict) or field not in value:
            raise StackError(f"the answer has no {field}: {self.status} {self.body}")
        return value[field]


@dataclass(frozen=True)
class ApiCall:
    """What to send. Calls that are for administrators have to be signed."""

    method: str
    url: str
    body: dict[str, Any] | None = None
    signer: Signer | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def send(self) -> ApiAnswer:
        request = urllib.request.Request(
            self.url, data=self._encode_body(), headers=self._build_headers(), method=self.method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return ApiAnswer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            return ApiAnswer(error.code, error.read().decode())

    def format_curl_command(self) -> str:
        words = ["curl", "-sS"]
        if self.method != "GET":
            words += ["-X", self.method]
        words += [shlex.quote(self.url)]
        if self.signer:
            words += self.signer.format_curl_options()
        for name, value in self.headers.items():
            words += ["-H", shlex.quote(f"{name}: {value}")]
        if self.body is not None:
            words += ["-H", "'content-type: application/json'", "-d", shlex.quote(json.dumps(self.body))]
        return " ".join(words)

    def _encode_body(self) -> bytes | None:
        return None if self.body is None else json.dumps(self.body).encode()

    def _build_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.body is not None:
            headers["content-type"] = "application/json"
        if self.signer is None:
            return headers
        request = AWSRequest(self.method, self.url, headers=headers, data=self._encode_body())
        self.signer.sign(request)
        return dict(request.headers)
