"""A configuration from somebody else makes nothing but what belongs where it stands."""

import ast
import copy
import json
import os
import subprocess
import sys

import pytest
import yaml

import fedrms
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.build import build_strategy
from fedrms.experiment.config import plain
from fedrms.experiment.foreign import refuse_foreign_addresses, refuse_foreign_hydra, refuse_strays
from fedrms.experiment.parts import build_parts
from fedrms.results.seal import sealed_text

SMALL = ["clients=2", "rounds=1", "client.steps=1", "noise=none"]


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported."""
    (tmp_path / "trap_module.py").write_text(
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'sprung')!r}).touch()\n"
        "def run(*args, **kwargs):\n    return None\n"
        "def promising(*args, **kwargs) -> int:\n    return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "sprung"


RUN = {"_target_": "trap_module.run"}


def with_value(config, path, value):
    """Return a copy of a plain configuration with one value set."""
    config = copy.deepcopy(config)
    *above, last = path.split(".")
    node = config
    for part in above:
        node[part] = dict(node.get(part) or {})
        node = node[part]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.hidden", RUN),
        ("model.hidden", [32, RUN]),
        ("strategy.law_options", {"deeper": RUN}),
        ("strategy.clip_norm", RUN),
        ("data.x", RUN),
        ("partition.options", RUN),
        ("appearance._target_", "trap_module.run"),
        ("fairness.own", RUN),
        ("client.statistics", RUN),
        ("strategy.law", {"deeper": RUN}),
        ("engine._target_", "trap_module.run"),
        ("tracker._target_", "trap_module.run"),
        ("client.lr", RUN),
        ("seed", RUN),
        ("model._partial_", True),
        ("model._recursive_", True),
        ("model._args_", [1]),
        ("model._convert_", "all"),
        ("optimizer.betas", RUN),
        ("server_optimizer.scheduler", {"more": RUN}),
    ],
)
def test_a_key_that_asks_for_an_object_elsewhere_is_refused_by_name(path, value, trap):
    config = with_value(plain(compose_config(SMALL)), path, value)
    with pytest.raises(ConfigError, match="where nothing is made") as caught:
        build_parts(config)
    assert caught.value.key.startswith(path.rpartition("._")[0] or path)
    assert caught.value.key.split(".")[-1].startswith("_")
    assert not trap.exists()


OTHERS = [
    "trap_module.run",
    "trap_module.Absent",
    "torch.hub.load",
    "pandas.read_pickle",
    "numpy.load",
    "shutil.copyfile",
    "builtins.eval",
    "hydra.utils.call",
    "functools.partial",
]


@pytest.mark.long
@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize(
    "words",
    [
        ["model._target_={}"],
        ["+task._target_={}"],
        ["strategy._target_={}"],
        ["optimizer=adam", "optimizer._target_={}"],
        ["optimizer=adam", "optimizer.scheduler={{_target_:{}}}"],
        ["server_optimizer=adam", "server_optimizer._target_={}"],
        ["server_optimizer=adam", "server_optimizer.scheduler={{_target_:{}}}"],
        ["partition=flower", "partition.target={}"],
        ["data=own", "data._target_={}"],
        ["partition=own", "partition._target_={}"],
        ["noise=own", "noise._target_={}"],
        ["adversary=own", "adversary._target_={}"],
        ["strategy.law={{_target_:{}}}"],
        ["strategy.combine={{_target_:{}}}"],
        ["+fairness.own.mine={{_target_:{}}}"],
        ["client.statistics={{mine:{{_target_:{}}}}}"],
    ],
)
def test_what_is_not_of_the_kind_is_refused_before_it_runs(words, target, trap):
    words = [word.format(target) for word in words]
    with pytest.raises(ConfigError) as caught:
        build_parts(compose_config([*SMALL, *words]))
    assert caught.value.key.endswith("target" if "partition=flower" in words else "_target_")
    assert not trap.exists()


def test_a_function_of_another_kind_is_imported_at_most_and_not_called(trap):
    with pytest.raises(ConfigError, match="not a torch module"):
        build_parts(compose_config([*SMALL, "model._target_=trap_module.promising"]))


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("model", "torch.optim.SGD"),
        ("strategy", "torch.nn.Linear"),
        ("server_optimizer", "torch.nn.Linear"),
        ("server_optimizer", "torch.optim.lr_scheduler.StepLR"),
        ("task", "fedrms.FedRMS"),
    ],
)
def test_a_class_of_the_wrong_kind_is_refused(group, target):
    choice = ["server_optimizer=adam"] if group == "server_optimizer" else []
    with pytest.raises(ConfigError, match="is not a") as caught:
        build_parts(compose_config([*SMALL, *choice, f"++{group}._target_={target}"]))
    assert caught.value.key == f"{group}._target_"


@pytest.mark.parametrize(
    "target", ["torch.optim.lr_scheduler.partial", "torch.optim.swa_utils.update_bn"]
)
def test_a_servers_order_makes_no_function_at_a_client(target):
    order = json.dumps({"_target_": target})
    settings = fedrms.client.LocalSettings(optimizer=order)
    with pytest.raises(ConfigError, match="not a torch optimizer"):
        fedrms.client.local_optimizer.LocalOptimizer(settings, {})


def test_every_strategy_that_comes_with_fedrms_is_still_made(repository):
    for path in sorted((repository / "conf" / "strategy").glob("*.yaml")):
        config = plain(compose_config([*SMALL, f"strategy={path.stem}"]))
        refuse_strays(config)
        side = fedrms.experiment.build.build_side(config, "cpu")
        assert build_strategy(config, side.federation)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"hidden": {"_target_": "trap_module.run"}}),
        ("model", {"_target_": "trap_module.run"}),
        ("strategy", {"_target_": "trap_module.run"}),
        ("client", {"lr": {"_target_": "trap_module.run"}}),
        ("client", {"statistics": {"mine": {"_target_": "trap_module.run"}}}),
        ("noise", {"_target_": "trap_module.run"}),
        ("adversary", {"_target_": "trap_module.promising"}),
        ("strategy", {"law": {"_target_": "trap_module.promising"}}),
        ("fairness", {"own": {"mine": {"_target_": "trap_module.run"}}}),
    ],
)
def test_a_folder_from_somebody_else_runs_nothing_when_it_is_resumed(
    key, value, sealed, trap, tmp_path
):
    folder = tmp_path / "theirs"
    fedrms.run(SMALL, folder=folder)
    (folder / "summary.json").unlink()
    for file in (folder / "checkpoint").iterdir():
        file.unlink()
    kept = folder / ".hydra" / "config.yaml"
    config = yaml.safe_load(kept.read_text())
    config[key] = {**config[key], **value}
    altered = yaml.safe_dump(config)
    kept.write_text(sealed_text(altered) if sealed else altered)
    with pytest.raises(ConfigError) as caught:
        fedrms.run([f"resume={folder}"])
    assert caught.value.key.startswith(key if sealed else (key, "resume"))
    assert not trap.exists()


def test_a_stray_target_is_named_though_the_file_is_not_as_it_was_written(tmp_path):
    fedrms.run(SMALL, folder=tmp_path)
    kept = tmp_path / ".hydra" / "config.yaml"
    kept.write_text(kept.read_text().replace("lr: 0.1", "lr: {_target_: os.system}"))
    with pytest.raises(ConfigError, match=r"os\.system") as caught:
        fedrms.run([f"resume={tmp_path}"])
    assert caught.value.key == "client.lr._target_"


def test_a_yaml_tag_makes_nothing(tmp_path):
    folder = tmp_path / "theirs"
    (folder / ".hydra").mkdir(parents=True)
    text = f"rounds: 1\nseed: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n"
    (folder / ".hydra" / "config.yaml").write_text(sealed_text(text))
    with pytest.raises(ConfigError, match="cannot be read"):
        fedrms.run([f"resume={folder}"])
    assert not (tmp_path / "made").exists()


def hydras_own():
    from omegaconf import OmegaConf

    return OmegaConf.to_container(compose_config(SMALL).hydra, resolve=False)


def test_hydras_settings_of_fedrms_are_harmless():
    refuse_foreign_hydra(hydras_own())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("callbacks.evil", {"_target_": "trap_module.run"}),
        ("launcher", {"_target_": "hydra.utils.call"}),
        ("sweeper", {"_target_": "${oc.env:HOME}"}),
        ("job_logging.handlers.x", {"()": "os.system", "command": "true"}),
        ("job_logging.handlers.x", {"class": "logging.handlers.SocketHandler"}),
        ("job_logging.handlers.x", {"class": "logging.FileHandler", "filename": "/etc/profile"}),
        (
            "hydra_logging.handlers.x",
            {"class": "logging.StreamHandler", "stream": "ext://trap_module"},
        ),
        ("job.env_set", {"LD_PRELOAD": "evil.so"}),
    ],
)
def test_hydras_settings_from_a_folder_may_name_nobodys_code(path, value):
    settings = hydras_own()
    *above, last = path.split(".")
    node = settings
    for part in above:
        node = node[part]
    node[last] = value
    with pytest.raises(ConfigError, match=r"may not choose it") as caught:
        refuse_foreign_hydra(settings)
    assert caught.value.key.startswith(f"hydra.{path}")


@pytest.mark.parametrize(
    ("key", "value"),
    [("engine.address", "ray://theirs:10001"), ("tracker.uri", "https://theirs.example.org")],
)
def test_a_folder_reaches_no_other_machine_unless_the_person_says_so(key, value):
    group, _, option = key.partition(".")
    kept = {group: {option: value}}
    with pytest.raises(ConfigError, match=f"say {key}={value}"):
        refuse_foreign_addresses(kept, set())
    refuse_foreign_addresses(kept, {key})
    refuse_foreign_addresses(kept, {group})
    refuse_foreign_addresses({group: {option: None}}, set())


@pytest.mark.long
def test_a_folder_of_configurations_runs_no_code_of_its_own(trap, tmp_path, repository):
    theirs = tmp_path / "conf" / "experiment"
    theirs.mkdir(parents=True)
    (theirs / "nice.yaml").write_text(
        "# @package _global_\nrounds: 1\nhydra:\n  callbacks:\n"
        "    evil: {_target_: trap_module.run}\n"
    )
    (theirs / "fine.yaml").write_text("# @package _global_\nrounds: 1\n")
    ended = {}
    for name in ("nice", "fine"):
        ended[name] = subprocess.run(
            [
                *(sys.executable, "-m", "fedrms.cli", "clients=2", "client.steps=1", "noise=none"),
                *(f"experiment={name}", "--config-dir", str(theirs.parent)),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{repository}{os.pathsep}{tmp_path}"},
            capture_output=True,
            text=True,
        )
    assert ended["nice"].returncode == 2
    assert "hydra.callbacks.evil._target_" in ended["nice"].stderr
    assert "Traceback" not in ended["nice"].stderr
    assert not trap.exists()
    assert ended["fine"].returncode == 0, ended["fine"].stderr


def test_nothing_in_fedrms_unpickles_or_evaluates_text(repository):
    """What could: pickle and its kin, torch.load, eval, and YAML that makes objects."""
    modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    for path in sorted((repository / "fedrms").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                named = {alias.name.split(".")[0] for alias in node.names}
                named.add((getattr(node, "module", None) or "").split(".")[0])
                assert not named & modules, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "pd.read_pickle"), path
                assert not called.endswith(("unsafe_load", "full_load")), path
                if called.endswith("np.load"):
                    assert "allow_pickle=False" in ast.unparse(node), path
