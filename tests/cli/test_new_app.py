"""A new Flower app from an example: what is written, and what is refused."""

from __future__ import annotations

import ast
import tomllib

import pytest

from fedrms.cli import new_app

KINDS = ["adapters", "pytorch", "sklearn", "tabular", "text"]


def test_the_kinds_are_the_examples_that_are_apps(capsys):
    assert list(new_app.kinds()) == KINDS
    new_app.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"\n  {kind} " in shown for kind in [*KINDS, "own"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_app_has_its_own_name_everywhere(kind, tmp_path):
    new_app.main([str(tmp_path / "Ward-7"), "--like", kind])
    project = tomllib.loads((tmp_path / "Ward-7" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "Ward-7"
    components = project["tool"]["flwr"]["app"]["components"]
    assert components == {
        "serverapp": "ward_7.server_app:app",
        "clientapp": "ward_7.client_app:app",
    }
    written = sorted((tmp_path / "Ward-7" / "ward_7").glob("*.py"))
    assert [file.name for file in written] == [
        "__init__.py",
        "client_app.py",
        "server_app.py",
        "task.py",
    ]
    for file in written:
        imports = [n.module for n in ast.walk(ast.parse(file.read_text())) if hasattr(n, "module")]
        own = [module for module in imports if module and module.endswith(".task")]
        assert own == (["ward_7.task"] if file.name.endswith("_app.py") else [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["app", "--like", "jax"], "--like: there is no 'jax'"),
        (["app"], "--like: is missing"),
        (["app", "--like"], "--like: is missing"),
        (["--like", "pytorch"], "FOLDER: is missing"),
        (["there", "--like", "text"], "there: is there already"),
        (["7th", "--like", "text"], "'7th' cannot be the name of a package"),
        (["torch", "--like=text"], "the package 'torch' is what the app uses"),
        (["json", "--like=text"], "'json' cannot be the name of a package"),
        (["app", "--like", "text", "rounds=3"], "rounds=3: nothing reads it with --like text"),
        (["app", "--kind", "text"], "--kind: there is no such option"),
        (["file/app", "--like", "text"], "file/app: cannot be made"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        new_app.main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_fedrms_own_app_is_a_kind_too(tmp_path):
    words = ["clients=3", "rounds=2", "server.trial=true", "server.min_clients=3"]
    new_app.main([str(tmp_path / "app"), "--like", "own", *words])
    project = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text())
    assert project["tool"]["flwr"]["app"]["components"]["serverapp"].startswith("fedrms.deployment")
