"""A SuperLink for one run: started on the loopback interface, given the app, watched, stopped."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Any, Self

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedrms.deployment.certificates import make_authority, make_server_pair, write_new
from fedrms.deployment.flower_home import CONNECTION, FlowerHome
from fedrms.deployment.options import public_keys
from fedrms.deployment.ports import free_port
from fedrms.deployment.programs import Program, find_program
from fedrms.errors import RunError

START_SECONDS = 1800.0
"""How long it may start; while its program lives that is a matter of the machine's load."""
ENDS_SECONDS = 1.0
"""Its grace: when it is stopped, all that counts is saved already."""
LOOKS_FOR_WORK = "2"
"""Seconds between two looks of Flower's program that starts apps; here there is one to start."""
PROTOBUF = "application/protobuf"


class SuperLink:
    """``flower-superlink`` on a free port of the loopback interface.

    With clients' public keys in the folder ``keys`` the way from the gate to it is encrypted too,
    for Flower authenticates clients over TLS only; ``authority`` is then the certificate that its
    own is signed by. ``order`` is what the server's app is told by the environment
    (:mod:`fedrms.deployment.order`).
    """

    def __init__(self, home: FlowerHome, log: Path, *, keys: Path | None, order: Path) -> None:
        self._home = home
        self._keys = keys
        port = free_port()
        self.authority = None if keys is None else _own_certificate(home.folder)
        self.url = f"{'http' if keys is None else 'https'}://127.0.0.1:{port}"
        words = [find_program("flower-superlink"), "--host", "127.0.0.1", "--port", str(port)]
        words.append("--disable-runtime-dependency-installation")
        if self.authority is None:
            words.append("--insecure")
        else:
            folder = self.authority.parent
            words += ["--ssl-ca-certfile", str(self.authority)]
            words += ["--ssl-certfile", str(folder / "link.crt")]
            words += ["--ssl-keyfile", str(folder / "link.key"), "--enable-supernode-auth"]
        home.connect(f"127.0.0.1:{port}", self.authority)
        self.program = Program(
            words,
            environment=home.environment(
                FEDRMS_ORDER=str(order), FLWR_SUPEREXEC_TASK_POLL_INTERVAL=LOOKS_FOR_WORK
            ),
            log=log,
            grace=ENDS_SECONDS,
        )

    def wait(self) -> None:
        """Wait until it answers, and register the clients' keys.

        That it ends, does not answer in time, or takes no such key is a `RunError`.
        """
        deadline = time.monotonic() + START_SECONDS
        verify = ssl.create_default_context(cafile=self.authority) if self.authority else True
        with httpx.Client(verify=verify, trust_env=False, timeout=2.0) as client:
            while not _healthy(client, self.url):
                if self.program.ended is not None or time.monotonic() > deadline:
                    raise RunError(f"the SuperLink did not start:\n{self.program.tail()}")
                time.sleep(0.1)
            for name, key in {} if self._keys is None else public_keys(self._keys).items():
                register(client, self.url, name, key)

    def submit(self, app: Path) -> str:
        """Submit an app and return the number of its run."""
        said = self._home.flwr("run", str(app), CONNECTION, "--format", "json")
        return str(_answer(said)["run-id"])

    def status(self, run_id: str) -> tuple[str, str]:
        """Return what Flower says about a run, and why, if it says."""
        said = self._home.flwr("list", CONNECTION, "--run-id", run_id, "--format", "json")
        (run,) = _answer(said)["runs"]
        status, _, why = str(run["status"]).partition(":")
        return status, why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()


def register(client: httpx.Client, url: str, name: str, key: Path) -> None:
    """Make a client's key known at a SuperLink, under the client's name.

    ``flwr supernode register`` sends the same, and takes three processor seconds a key. A key that
    Flower does not take is a `RunError`.
    """
    from flwr.proto.control_pb2 import RegisterNodeRequest
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    try:
        public: Any = load_ssh_public_key(key.read_bytes())
        request = RegisterNodeRequest(public_key=public_key_to_bytes(public), name=name)
        answer = client.post(
            f"{url}/v1/control/register-node",
            content=request.SerializeToString(),
            headers={"content-type": PROTOBUF, "accept": PROTOBUF},
            timeout=60.0,
        )
        answer.raise_for_status()
    except (ValueError, UnsupportedAlgorithm, httpx.HTTPError) as error:
        said = error.response.text if isinstance(error, httpx.HTTPStatusError) else error
        raise RunError(f"server.auth: {key} was not taken: {said}") from error


def _own_certificate(folder: Path) -> Path:
    """Make a certificate for the loopback interface, and return that of its authority."""
    authority = make_authority()
    pair = make_server_pair(authority, ["127.0.0.1"])
    write_new(folder / "link-ca.crt", authority.certificate_pem)
    write_new(folder / "link.crt", pair.certificate_pem)
    write_new(folder / "link.key", pair.key_pem, private=True)
    return folder / "link-ca.crt"


def _healthy(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _answer(said: str) -> dict[str, Any]:
    """Return the JSON that Flower's command line printed, whatever stands before it.

    It may say that it failed, a `RunError`, with exit status 0.
    """
    answer = json.loads(said[said.index("{") :])
    assert isinstance(answer, dict)
    if not answer.get("success", True):
        raise RunError(f"Flower's command line failed: {answer.get('error-message', said)}")
    return answer
