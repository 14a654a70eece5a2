"""The gate lets clients' requests through to a server behind it, and nothing else."""

import gc
import http.client
import socket
import ssl
import time
from asyncio import sslproto
from base64 import b64encode
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from fedrms.deployment import door, gate, signatures, uploads
from fedrms.deployment.certificates import (
    make_authority,
    make_client_key,
    make_server_pair,
    write_new,
)
from fedrms.deployment.gate import LARGEST, Gate
from fedrms.deployment.options import Address
from fedrms.deployment.ports import free_port
from fedrms.errors import ConfigError
from tests.deployment.real import serving


async def echo(scope, receive, send):
    """Answer with the method, the path, one header and the length of the body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    sent = dict(scope["headers"]).get(b"flwr-public-key", b"")
    answer = f"{scope['method']} {scope['path']} {sent.decode()} {len(body)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kept", b"yes")]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def behind():
    with serving(echo) as where:
        yield where


def at(address, inside, *, tls=None, signed=False):
    return Gate(address, inside, tls=tls, authority=None, signed=signed)


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setattr(door, "held", Counter())  # a gate that is closed forgets nobody
    monkeypatch.setattr(gate, "STRANGER_WAITS", 0.01)
    return Address("127.0.0.1", free_port())


def ask(address, method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection(address.host, address.port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def test_a_clients_request_passes_with_its_headers_and_its_body(behind, address):
    with at(address, behind):
        status, text, headers = ask(
            address, "POST", "/v1/fleet/push-object", b"x" * 1000, {"flwr-public-key": "abc"}
        )
    assert (status, text) == (200, "POST /v1/fleet/push-object abc 1000")
    assert headers["x-kept"] == "yes"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/stop-run",
        "/v1/fleet/%2e%2e/control/stop-run",
        "/v1/fleet/",
        "/v1/fleet/a/b",
        "//v1/fleet/a",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_no_other_path_passes(behind, address, path):
    with at(address, behind):
        assert ask(address, "POST", path)[0] == 404
        assert ask(address, "GET", path)[0] == 404


def test_a_reply_under_another_clients_number_is_refused(behind, address):
    own = PushMessagesRequest(node=Node(node_id=7))
    own.messages_list.add().metadata.src_node_id = 7
    others = PushMessagesRequest(node=Node(node_id=7))
    others.messages_list.add().metadata.src_node_id = 8
    path = "/v1/fleet/push-messages"
    with at(address, behind):
        assert ask(address, "POST", path, own.SerializeToString())[0] == 200
        assert ask(address, "POST", path, others.SerializeToString())[0] == 403
        assert ask(address, "POST", path, b"\x80garbage")[0] == 200  # the SuperLink's to refuse


def test_its_health_is_for_everyone_to_ask(behind, address):
    with at(address, behind, signed=True):
        assert ask(address, "GET", "/health")[:2] == (200, "")
        assert ask(address, "POST", "/health")[0] == 404
    with at(address, f"http://127.0.0.1:{free_port()}", signed=True):
        assert ask(address, "GET", "/health")[0] == 503


def test_who_may_not_speak_hears_so_after_a_while(behind, address, monkeypatch):
    monkeypatch.setattr(gate, "STRANGER_WAITS", 0.5)
    with at(address, behind, signed=True):
        started = time.monotonic()
        assert ask(address, "POST", "/v1/fleet/a")[0] == 401
        assert time.monotonic() - started >= 0.5


def test_a_body_with_a_question_for_its_health_is_not_read(behind, address):
    with at(address, behind), socket.create_connection((address.host, address.port), 60) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\nx")
        answer = b"".join(iter(lambda: line.recv(4096), b""))  # until the gate closes
    assert answer.startswith(b"HTTP/1.1 200")


def test_the_superlink_is_asked_for_its_health_no_more_than_every_other_second(address):
    asked = []

    async def well(scope, receive, send):
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with serving(well) as where, at(address, where):
        started = time.monotonic()
        said = [ask(address, "GET", "/health")[0] for _ in range(20)]
        lasted = time.monotonic() - started
    assert said == [200] * 20
    assert len(asked) <= 1 + lasted / gate.HEALTHY_SECONDS


def test_the_fleet_is_posted_to_only(behind, address):
    with at(address, behind):
        assert ask(address, "GET", "/v1/fleet/get-run")[0] == 404


def test_a_request_that_is_too_large_is_refused_whether_it_says_its_length_or_not(behind, address):
    def chunks():
        for _ in range(LARGEST // (1 << 20) + 1):
            yield b"x" * (1 << 20)

    with at(address, behind):
        assert ask(address, "POST", "/v1/fleet/a", b"x" * LARGEST)[0] == 200
        assert ask(address, "POST", "/v1/fleet/a", headers={"content-length": "9" * 15})[0] == 413
        try:
            refused = ask(address, "POST", "/v1/fleet/a", chunks())[0] == 413
        except ConnectionError:  # the gate may have closed before the rest was sent
            refused = True
        assert refused


def test_a_signature_is_taken_once_where_clients_sign(behind, address):
    with at(address, behind, signed=True):
        assert ask(address, "POST", "/v1/fleet/a")[0] == 401
        assert ask(address, "POST", "/v1/fleet/a", headers={"flwr-signature": "s1"})[0] == 200
        assert ask(address, "POST", "/v1/fleet/a", headers={"flwr-signature": "s1"})[0] == 401
        assert ask(address, "POST", "/v1/fleet/a", headers={"flwr-signature": "s2"})[0] == 200


def test_signatures_are_forgotten_when_flower_no_longer_takes_them(monkeypatch):
    kept = signatures.Signatures(None)
    clock = [0.0]
    monkeypatch.setattr(signatures.time, "monotonic", lambda: clock[0])
    for number in range(5000):
        clock[0] += 1.0
        assert kept.problem({"flwr-signature": str(number)}) is None
    assert len(kept) == 600
    assert "before" in kept.problem({"flwr-signature": "4990"})


def signed_by(private, *, at=None):
    """The headers that Flower's client sends."""
    key = load_ssh_private_key(private, None)
    told = (at or datetime.now(UTC)).isoformat()
    return {
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": told,
        "flwr-signature": b64encode(sign_message(key, told.encode())).decode(),
    }


def test_a_stranger_is_refused_by_the_headers_before_any_body_is_sent(behind, address, tmp_path):
    private, public = make_client_key()
    (tmp_path / "a.pub").write_bytes(public)
    stranger, _ = make_client_key()
    own, other, old = (
        signed_by(private),
        signed_by(stranger),
        signed_by(private, at=datetime.now(UTC) - timedelta(hours=1)),
    )
    forged = {**signed_by(private), "flwr-signature": other["flwr-signature"]}
    announced = {"content-length": str(1 << 20)}
    with Gate(address, behind, tls=None, authority=None, signed=True, keys=tmp_path):
        for headers, why in ((other, "a key"), (old, "another time"), (forged, "not the key's")):
            status, text, told = ask(
                address, "POST", "/v1/fleet/a", headers={**headers, **announced}
            )
            assert (status, told["connection"]) == (401, "close")
            assert why in text
        assert ask(address, "POST", "/v1/fleet/a", b"x" * (1 << 20), own)[0] == 200
        assert ask(address, "POST", "/v1/fleet/a", b"x", own)[0] == 401


def test_a_site_may_send_no_more_than_a_reply_to_what_it_was_sent(
    behind, address, tmp_path, monkeypatch
):
    private, public = make_client_key()
    (tmp_path / "a.pub").write_bytes(public)
    monkeypatch.setattr(uploads, "FREE", 1000)
    with Gate(address, behind, tls=None, authority=None, signed=True, keys=tmp_path):

        def push(size):
            return ask(
                address, "POST", "/v1/fleet/push-object", b"\x0a" * size, signed_by(private)
            )[:2]

        assert [push(600)[0], push(400)[0]] == [200, 200]
        status, text = push(1)
        assert status == 413
        assert "more than a reply" in text
        assert ask(address, "POST", "/v1/fleet/a", b"x" * 9000, signed_by(private))[0] == 200


def closed_after(connection, seconds=20.0):
    """The seconds until the other side closes a connection."""
    connection.settimeout(seconds)
    started = time.monotonic()
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - started


def test_connections_that_ask_nothing_and_bodies_that_do_not_come_are_closed(
    behind, address, monkeypatch
):
    monkeypatch.setattr(door, "FIRST_SECONDS", 0.5)
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.5)
    with at(address, behind):
        silent = socket.create_connection((address.host, address.port))
        half = socket.create_connection((address.host, address.port))
        half.sendall(b"POST /v1/fleet/a HTTP/1.1\r\nHost: x\r\n")
        body = socket.create_connection((address.host, address.port))
        body.sendall(b"POST /v1/fleet/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        for connection in (silent, half, body):
            assert closed_after(connection) < 15
            connection.close()
        assert ask(address, "POST", "/v1/fleet/a", b"xy")[0] == 200


def test_one_address_holds_so_many_connections_and_no_more(behind, address, monkeypatch):
    monkeypatch.setattr(door, "MOST_OF_AN_ADDRESS", 3)
    with at(address, behind):
        held = [socket.create_connection((address.host, address.port)) for _ in range(3)]
        time.sleep(0.2)
        assert closed_after(socket.create_connection((address.host, address.port))) < 5
        held.pop().close()
        time.sleep(0.2)
        assert ask(address, "GET", "/health")[0] == 200
        for connection in held:
            connection.close()


def test_a_server_that_is_gone_is_told_of(address):
    with at(address, f"http://127.0.0.1:{free_port()}"):
        assert ask(address, "POST", "/v1/fleet/a")[0] == 503


def test_an_address_that_is_taken_is_refused_by_its_key(behind, address):
    with at(address, behind), pytest.raises(ConfigError, match=r"server\.address: cannot listen"):
        at(address, behind)


@pytest.fixture
def certified(tmp_path):
    """A folder with the server's certificate, and what trusts its authority."""
    authority = make_authority()
    pair = make_server_pair(authority, ["127.0.0.1"])
    write_new(tmp_path / "server.crt", pair.certificate_pem)
    write_new(tmp_path / "server.key", pair.key_pem, private=True)
    return tmp_path, ssl.create_default_context(cadata=authority.certificate_pem.decode())


def test_a_client_that_trusts_the_authority_gets_through_with_tls(behind, address, certified):
    folder, trusting = certified
    with at(address, behind, tls=folder):
        secure = http.client.HTTPSConnection("127.0.0.1", address.port, context=trusting)
        secure.request("POST", "/v1/fleet/a", b"xy")
        assert secure.getresponse().read() == b"POST /v1/fleet/a  2"
        stranger = ssl.create_default_context(cadata=make_authority().certificate_pem.decode())
        refused = http.client.HTTPSConnection("127.0.0.1", address.port, context=stranger)
        with pytest.raises(ssl.SSLCertVerificationError):
            refused.connect()
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(address, "POST", "/v1/fleet/a")


def test_tls_may_come_in_pieces_and_the_request_on_its_heels(behind, address, certified):
    folder, trusting = certified
    read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(read, written, server_hostname="127.0.0.1")
    with (
        at(address, behind, tls=folder),
        socket.create_connection((address.host, address.port), 60) as line,
    ):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = written.read()
        for start in range(0, len(hello), 100):
            line.sendall(hello[start : start + 100])
            time.sleep(0.01)
        while True:
            read.write(line.recv(65536))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        body = b"y" * 300_000
        head = f"POST /v1/fleet/a HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.write(head.encode() + body)
        line.sendall(written.read())  # the end of the handshake and the request at once
        answer = b""
        while b"300000" not in answer:
            read.write(line.recv(65536))
            with suppress(ssl.SSLWantReadError):
                answer += client.read(65536)
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_connection_that_says_nothing_is_given_no_memory_for_tls(behind, address, certified):
    folder, _ = certified
    with at(address, behind, tls=folder):
        before = encrypted()  # of gates that are closed
        silent = [socket.create_connection((address.host, address.port)) for _ in range(50)]
        silent[0].sendall(b"\x16\x03\x01")
        until(lambda: door.held["127.0.0.1"] == 50)
        assert encrypted() <= before
        for connection in silent:
            connection.close()
        until(lambda: not door.held)


def test_what_is_no_tls_is_closed_at_once_and_counted_no_longer(behind, address, certified):
    folder, _ = certified
    with at(address, behind, tls=folder):
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x03\x01\x00\x0a" + b"x" * 10,
        ):
            line = socket.create_connection((address.host, address.port))
            line.sendall(said)
            assert closed_after(line) < 5
            line.close()
        until(lambda: not door.held)


def test_one_address_holds_so_many_connections_with_tls_too(
    behind, address, certified, monkeypatch
):
    folder, trusting = certified
    monkeypatch.setattr(door, "MOST_OF_AN_ADDRESS", 3)
    with at(address, behind, tls=folder):
        held = [socket.create_connection((address.host, address.port)) for _ in range(3)]
        until(lambda: door.held["127.0.0.1"] == 3)
        assert closed_after(socket.create_connection((address.host, address.port))) < 5
        held.pop().close()
        until(lambda: door.held["127.0.0.1"] == 2)
        secure = http.client.HTTPSConnection("127.0.0.1", address.port, context=trusting)
        secure.request("POST", "/v1/fleet/a", b"xy")
        assert secure.getresponse().read() == b"POST /v1/fleet/a  2"
        secure.close()
        until(lambda: door.held["127.0.0.1"] == 2)
        for connection in held:
            connection.close()


def encrypted():
    return sum(isinstance(one, sslproto.SSLProtocol) for one in gc.get_objects())


def until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
