"""The commands refuse what cannot run before they start anything."""

import signal

import pytest

from fedrms.cli import certs, client, server
from fedrms.cli.ending import STOPPING
from fedrms.cli.launch import names


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    before = {number: signal.getsignal(number) for number in STOPPING}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(command, words, capsys):
    with pytest.raises(SystemExit) as ended:
        command(list(words))
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_key_that_cannot_be_read_is_refused_before_anything_starts(tmp_path, capsys):
    (tmp_path / "ca.crt").touch()
    (tmp_path / "key").write_text(
        "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n"
    )
    words = ("data=digits", "client.id=a", "client.tls=ca.crt", "client.key=key")
    said = refused(client.main, words, capsys)
    assert "client.key" in said
    assert "fedrms-certs" in said


def test_a_former_word_is_told_once(capsys, caplog):
    said = refused(client.main, ("data=nothing", "client.id=../a"), capsys)
    assert caplog.text.count("data=nothing is written data=zeros now") == 1
    assert "client.id: is '../a'" in said


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=softmax", "client.id=a"), "data: it is not set"),
        (("--nonsense", "a"), "--nonsense: is no flag of fedrms"),
        (("data=digits",), "client.id: it is not set"),
        (("data=digits", "client.id=../a"), "client.id: is '../a'"),
        (("data=regression", "client.id=a"), "data: regression is drawn from the seed"),
        (("clients=3", "client.partition=3"), "client.partition: is 3"),
        (("data=digits", "client.id=a", "client.key=none"), "client.key: there is no file"),
        (("data=digits", "client.id=a", "server.address=here"), "server.address: 'here'"),
        (("data=digits", "client.id=a", "client.wait_seconds=0"), "client.wait_seconds: is 0"),
    ],
)
def test_a_client_that_cannot_run_says_why(words, said, capsys):
    assert said in refused(client.main, words, capsys)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("server.min_clients=0",), "server.min_clients: is 0"),
        (("server.round_seconds=0",), "server.round_seconds: is 0"),
        (("server.auth=.",), "server.auth: keys need encryption"),
        (("server.tls=.",), "server.tls: there is no server.crt"),
        (("server.adress=x",), "server.adress"),
        (("data=none",), "data.shape: it is not set"),
        (("data=none", "data.shape=[3]"), "data.classes: it is not set"),
        (("adversary=liars",), "adversary: only a simulation"),
        (("counterfactual=clean",), "counterfactual: the server does not know"),
        (("strategy=oracle",), "strategy: the oracle"),
        (("server.trial=true", "clients=2", "server.min_clients=3"), "server.min_clients: is 3"),
    ],
)
def test_a_server_that_cannot_run_says_why(words, said, capsys, tmp_path):
    assert said in refused(server.main, words, capsys)
    assert not list(tmp_path.rglob("superlink.log"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("out=certs",), "clients: it is not set"),
        (("out=certs", "clients=a", "day=3"), "day=3: is no option"),
        (("out=certs", "clients=a,a"), "clients: 'a'"),
        (("out=certs", "clients=a/b"), "clients: 'a/b'"),
        (("out=certs", "clients=ca.key"), "clients: 'ca.key'"),
        (("out=certs", "clients=a", "days=0"), "days: is 0"),
    ],
)
def test_certificates_that_cannot_be_are_refused(words, said, capsys, tmp_path):
    assert said in refused(certs.main, words, capsys)
    assert not list(tmp_path.iterdir())


def test_a_choice_on_the_command_line_is_recognised_in_every_form():
    assert names(["+data=digits"], "data")
    assert names(["~noise=x", "rounds=3"], "noise")
    assert not names(["data.path=x", "metadata=y"], "data")


def test_each_command_explains_itself(capsys):
    for command, word in ((server, "min_clients"), (client, "partition"), (certs, "hosts=")):
        command.main(["--help"])
        assert word in capsys.readouterr().out
