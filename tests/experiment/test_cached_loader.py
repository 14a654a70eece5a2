"""What is composed from the cache is what Hydra composes."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import OmegaConf

from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.experiment import compose_config
from fedrms.experiment.cached_loader import CachedLoader
from fedrms.experiment.config import plain


@pytest.mark.parametrize(
    "words",
    [
        ["seed=3"],
        ["strategy=fedavg", "seed=1", "client.lr=0.3"],
        ["seed=1", "experiment=mnist_noise/s2", "rounds=3", "data=regression"],
        ["noise.fraction=0.3", "+strategy.foo=1", "~tracker", "seed=2", "seed=4"],
        ["noise.drift=[{round: 3, levels: shuffle}]", "strategy.law_options={slack: 1}"],
        ["+server=superlink", "server.min_clients=3", "hydra.run.dir=x"],
        ["data=parquet", "data.path='a b'", "model._target_=own.Net"],
    ],
)
def test_from_the_cache_comes_what_hydra_composes(words):
    compose_config([*words, "rounds=7"])  # of the same groups, with other values
    cached = compose_config(words)
    setbase("1.3")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_folder())))
    composed = loader.load_configuration("config", words, RunMode.RUN, from_shell=False)
    composed.hydra.job.name = cached.hydra.job.name  # of whoever used Hydra last in this process
    assert OmegaConf.to_yaml(cached) == OmegaConf.to_yaml(composed)


def test_one_configuration_is_not_another():
    one = compose_config(["client.lr=0.3"])
    one.client.lr = 9
    assert compose_config(["client.lr=0.3"]).client.lr == 0.3


@pytest.mark.parametrize("word", ["roundz=1", "seed=1,2", "client.lr=[1", "client=none"])
def test_what_hydra_refuses_is_refused(word):
    compose_config(["rounds=1"])
    with pytest.raises(ConfigError):
        compose_config([word])


def test_what_is_only_checked_changes_nothing_that_is_composed():
    setbase("1.3")
    loader = CachedLoader(ConfigLoaderImpl(create_config_search_path(str(conf_folder()))))
    checking = loader.checking()
    for rate in (0.3, 0.4):
        words = [f"client.lr={rate}", "strategy.law_options={slack: 1}"]
        assert checking.load_configuration("config", words, RunMode.RUN).client.lr == rate
    composed = loader.load_configuration("config", ["seed=1"], RunMode.RUN)
    assert plain(composed) == plain(compose_config(["seed=1"]))
    for word in ("roundz=1", "strategy=fedavgg"):
        with pytest.raises(HydraException):
            checking.load_configuration("config", [word], RunMode.RUN)
