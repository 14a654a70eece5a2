"""What the gate answers in the SuperLink's place, and how it tells that a site is gone."""

import http.client
import time
from base64 import b64encode
from collections import Counter
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    DeactivateNodeRequest,
    DeactivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from fedrms.deployment import door, gate, presence
from fedrms.deployment.bell import Bell
from fedrms.deployment.certificates import make_client_key
from fedrms.deployment.gate import Gate
from fedrms.deployment.options import Address
from fedrms.deployment.ports import free_port
from fedrms.deployment.presence import (
    ACTIVATE,
    BEAT,
    CUT_OFF,
    DEACTIVATE,
    KEEPS,
    SILENT,
    TOLD_EVERY,
    TOLD_FOR,
    Presence,
)
from fedrms.deployment.uploads import PULL, PUSH, PUSH_OBJECT
from tests.deployment.real import serving

NODE = Node(node_id=7)
BEATS = SendNodeHeartbeatRequest(node=NODE, heartbeat_interval=30).SerializeToString()
ASKS = PullMessagesRequest(node=NODE).SerializeToString()
YES = SendNodeHeartbeatResponse(success=True).SerializeToString()
NOTHING = PullMessagesResponse().SerializeToString()


@pytest.fixture
def bell(tmp_path):
    return Bell(tmp_path / "bell")


@pytest.fixture
def there(bell):
    """What a gate knows of a site that the SuperLink has taken, and of which it has heard."""
    known = Presence(bell)
    site = known.hear("key", BEAT, {KEEPS: "yes"})
    joined = ActivateNodeResponse(node_id=7).SerializeToString()
    known.answered(site, ACTIVATE, b"", joined, 0)
    known.answered(site, BEAT, BEATS, YES, 0)
    return known, site


def test_a_bell_is_heard_in_another_process_and_names_what_is_given_up(bell, tmp_path):
    other = Bell(tmp_path / "bell")
    assert (other.rung(), other.given_up("a")) == (0, False)
    bell.ring()
    bell.give_up("a")
    assert (other.rung(), other.given_up("a"), other.given_up("b")) == (1, True, False)
    bell.give_up("b")
    assert other.given_up("b")


def test_a_beat_is_passed_on_seldom_and_for_long(there, bell):
    known, site = there
    assert known.answer(site, BEAT, BEATS) == YES
    site.told -= TOLD_EVERY
    assert known.answer(site, BEAT, BEATS) is None
    asked, _ = known.ask(BEAT, BEATS)
    assert SendNodeHeartbeatRequest.FromString(asked).heartbeat_interval == TOLD_FOR > TOLD_EVERY


@pytest.mark.parametrize("body", [b"\xff\xff", b"", BEATS.replace(b"\x07", b"\x08")])
@pytest.mark.parametrize("path", [BEAT, PULL])
def test_what_is_not_a_sites_own_question_is_the_superlinks_to_refuse(there, path, body):
    known, site = there
    known.answered(site, PULL, ASKS, NOTHING, 0)
    assert known.answer(site, path, body) is None
    known.ask(path, body)


def test_there_is_nothing_for_a_site_until_the_bell_rings(there, bell):
    known, site = there
    assert known.answer(site, PULL, ASKS) is None
    _, rung = known.ask(PULL, ASKS)
    known.answered(site, PULL, ASKS, NOTHING, rung)
    assert known.answer(site, PULL, ASKS) == NOTHING
    bell.ring()
    assert known.answer(site, PULL, ASKS) is None


def test_a_bell_that_rings_while_the_superlink_answers_is_not_missed(there, bell):
    known, site = there
    _, rung = known.ask(PULL, ASKS)
    bell.ring()
    known.answered(site, PULL, ASKS, NOTHING, rung)
    assert known.answer(site, PULL, ASKS) is None


def test_after_a_message_a_site_may_find_another(there, bell):
    known, site = there
    some = PullMessagesResponse()
    some.messages_list.add()
    known.answered(site, PULL, ASKS, NOTHING, 0)
    known.answered(site, PULL, ASKS, some.SerializeToString(), 0)
    assert known.answer(site, PULL, ASKS) is None


def test_a_site_is_gone_after_silence_and_sooner_without_the_connection_that_it_kept(there):
    _, site = there
    now = site.heard
    site.open.add(object())
    assert not site.is_gone(now + SILENT)
    assert site.is_gone(now + SILENT + 1)
    site.open.clear()
    assert not site.is_gone(now + CUT_OFF)
    assert site.is_gone(now + CUT_OFF + 1)
    site.headers = {}
    assert not site.is_gone(now + CUT_OFF + 1)


def test_who_is_gone_is_told_of_once_and_joins_with_its_next_beat(there):
    known, site = there
    site.heard -= SILENT + 1
    assert list(known.gone()) == [site]
    assert DeactivateNodeRequest.FromString(known.lose(site)).node_id == 7
    assert list(known.gone()) == []
    assert known.answer(site, BEAT, BEATS) is None
    known.answered(site, BEAT, BEATS, YES, 0)
    assert known.answer(site, BEAT, BEATS) == YES


def test_a_successor_that_asks_to_join_is_no_word_of_the_one_before(there):
    known, site = there
    site.heard -= SILENT + 1
    known.hear("key", ACTIVATE, {})
    assert list(known.gone()) == [site]
    known.hear("key", BEAT, {})
    assert list(known.gone()) == []


def announced(known, site, name, parts):
    """Announce a reply of which the SuperLink wants some parts."""
    request = PushMessagesRequest(node=NODE)
    request.message_object_trees.add(object_id=name)
    answer = PushMessagesResponse(objects_to_push=parts).SerializeToString()
    known.answered(site, PUSH, request.SerializeToString(), answer, 0)


def test_a_reply_is_given_up_where_parts_are_missing_and_its_sender_is_gone(there, bell):
    known, site = there
    announced(known, site, "whole", ["1", "2"])
    announced(known, site, "half", ["2", "3"])
    for part in ("1", "2"):
        sent = PushObjectRequest(node=NODE, object_id=part).SerializeToString()
        known.answered(site, PUSH_OBJECT, sent, b"", 0)
    assert not bell.given_up("half")
    known.lose(site)
    assert (bell.given_up("whole"), bell.given_up("half")) == (False, True)


def test_what_a_site_was_asked_and_has_not_answered_is_given_up_when_it_is_gone(there, bell):
    known, site = there
    given = PullMessagesResponse()
    for name in ("answered", "open"):
        given.messages_list.add().metadata.message_id = name
    known.answered(site, PULL, ASKS, given.SerializeToString(), 0)
    reply = PushMessagesRequest(node=NODE)
    reply.messages_list.add().metadata.reply_to_message_id = "answered"
    done = PushMessagesResponse().SerializeToString()
    known.answered(site, PUSH, reply.SerializeToString(), done, 0)
    assert not bell.given_up("open")
    known.lose(site)
    assert (bell.given_up("answered"), bell.given_up("open")) == (False, True)
    assert site.asked == set()


def test_a_site_that_announces_without_end_is_remembered_by_its_last_replies(there):
    known, site = there
    for number in range(100):
        announced(known, site, str(number), ["part"])
    assert list(site.unfinished) == [str(number) for number in range(92, 100)]


def test_what_is_no_answer_of_flowers_changes_nothing(there):
    known, site = there
    for path in (ACTIVATE, BEAT, PULL, PUSH, PUSH_OBJECT):
        known.answered(site, path, b"\xff\xff", b"\xff\xff", 0)
    assert (site.node, site.empty, site.unfinished) == (7, None, {})


ANSWERS = {
    ACTIVATE: ActivateNodeResponse(node_id=7),
    DEACTIVATE: DeactivateNodeResponse(),
    BEAT: SendNodeHeartbeatResponse(success=True),
    PULL: PullMessagesResponse(),
    PUSH_OBJECT: PushObjectResponse(stored=True),
}


@pytest.fixture
def asked():
    """What a SuperLink that takes everything was asked."""
    return []


@pytest.fixture
def behind(asked):
    async def link(scope, receive, send):
        body = (await receive())["body"]
        asked.append((scope["path"], body, dict(scope["headers"])))
        answer = ANSWERS[scope["path"]].SerializeToString()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    with serving(link) as where:
        yield where


class Client:
    """A site that keeps a connection, or none."""

    def __init__(self, address, private, *, keeps=True):
        self._key = load_ssh_private_key(private, None)
        self._keeps = {KEEPS: "yes"} if keeps else {}
        self.line = http.client.HTTPConnection(address.host, address.port, timeout=60)

    def ask(self, path, body=b""):
        told = datetime.now(UTC).isoformat()
        signed = {
            "flwr-public-key": b64encode(public_key_to_bytes(self._key.public_key())).decode(),
            "flwr-timestamp": told,
            "flwr-signature": b64encode(sign_message(self._key, told.encode())).decode(),
        }
        self.line.request("POST", path, body, self._keeps | signed)
        answer = self.line.getresponse()
        return answer.status, answer.read()

    def join(self):
        self.ask(ACTIVATE, ActivateNodeRequest(heartbeat_interval=30).SerializeToString())
        assert self.ask(BEAT, BEATS) == (200, YES)
        assert self.ask(PULL, ASKS) == (200, NOTHING)


@pytest.fixture
def private(tmp_path):
    private, public = make_client_key()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a.pub").write_bytes(public)
    return private


@pytest.fixture
def address(behind, bell, private, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "held", Counter())
    monkeypatch.setattr(gate, "STRANGER_WAITS", 0.01)
    where = Address("127.0.0.1", free_port())
    keys = tmp_path / "keys"
    with Gate(where, behind, tls=None, authority=None, signed=True, keys=keys, bell=bell):
        yield where


def paths(asked):
    return [path for path, *_ in asked]


def test_a_client_that_waits_asks_the_superlink_nothing(address, private, bell, asked):
    client = Client(address, private)
    client.join()
    for _ in range(5):
        assert client.ask(BEAT, BEATS) == (200, YES)
        assert client.ask(PULL, ASKS) == (200, NOTHING)
    assert paths(asked) == [ACTIVATE, BEAT, PULL]
    bell.ring()
    client.ask(PULL, ASKS)
    assert paths(asked)[3:] == [PULL]


def test_a_strangers_signature_is_answered_nothing(address, private, asked):
    client = Client(address, private)
    client.join()
    client._key = load_ssh_private_key(make_client_key()[0], None)
    assert client.ask(BEAT, BEATS)[0] == 401


def test_a_sites_connection_is_kept_and_is_not_counted_for_its_address(
    address, private, monkeypatch
):
    monkeypatch.setattr(door, "FIRST_SECONDS", 0.3)
    client, silent = Client(address, private), Client(address, private)
    client.join()
    silent.line.connect()
    assert silent.line.sock.recv(1) == b""  # who says nothing is closed
    assert door.held.total() == 0
    time.sleep(0.5)
    before = client.line.sock
    assert client.ask(BEAT, BEATS) == (200, YES)
    assert client.line.sock is before


def test_a_killed_clients_successor_is_taken_at_once_and_a_second_one_is_not(
    address, private, asked
):
    first, second = Client(address, private), Client(address, private)
    first.join()
    second.ask(ACTIVATE)
    assert paths(asked)[3:] == [ACTIVATE]  # which the SuperLink refuses while the first is there
    first.line.close()
    second.line.close()
    third = Client(address, private)
    time.sleep(0.5)
    third.ask(ACTIVATE)
    assert paths(asked)[4:] == [DEACTIVATE, ACTIVATE]


def test_a_client_that_keeps_no_connection_may_be_there_without(address, private, asked):
    first = Client(address, private, keeps=False)
    first.join()
    first.line.close()
    time.sleep(0.5)
    Client(address, private, keeps=False).ask(ACTIVATE)
    assert DEACTIVATE not in paths(asked)


def test_the_superlink_hears_by_the_last_signature_who_is_gone(
    behind, bell, private, tmp_path, monkeypatch, asked
):
    monkeypatch.setattr(presence, "CUT_OFF", 0.5)
    monkeypatch.setattr(gate, "ROUND_SECONDS", 0.1)
    where, keys = Address("127.0.0.1", free_port()), tmp_path / "keys"
    with Gate(where, behind, tls=None, authority=None, signed=True, keys=keys, bell=bell):
        client = Client(where, private)
        client.join()
        client.line.close()
        deadline = time.monotonic() + 30
        while DEACTIVATE not in paths(asked) and time.monotonic() < deadline:
            time.sleep(0.05)
    path, body, headers = asked[-1]
    assert (path, DeactivateNodeRequest.FromString(body).node_id) == (DEACTIVATE, 7)
    assert b"flwr-signature" in headers
