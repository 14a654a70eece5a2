"""Before a multirun: can its seeds decide anything?"""

import pytest

from fedrms.cli.comparison import too_few_seeds


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["strategy=fedavg,fedrms", "seed=0,1,2"], 6),
        (["strategy=fedavg,fedrms,oracle", "seed=0,1,2"], 7),
        (["strategy=fedavg,fedrms,oracle"], 7),
        (["strategy=fedavg,fedrms", "noise=label,none,feature,missing", "seed=range(7)"], 8),
        (["strategy=glob([fedavg,fedrms])", "seed=0,1,2"], 6),
        (["strategy=choice(fedavg,fedrms)", "strategy.decay=0.5,0.9", "seed=range(6)"], 7),
    ],
)
def test_too_few_seeds_are_told_with_the_override_that_would_do(words, needed):
    assert f"'seed=range({needed})'" in too_few_seeds(words)


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=fedavg,fedrms,oracle", "seed=range(7)"],
        ["strategy=fedavg,fedrms,oracle", "seed=range(0,16,2)"],
        ["strategy=fedrms", "seed=0,1"],
        ["strategy=fedrms,oracle", "seed=0,1"],
        ["client.lr=0.1,0.2"],
        ["strategy=fedavg", "seed=0,1,2"],
    ],
)
def test_enough_seeds_or_nothing_to_compare_are_no_news(words):
    assert too_few_seeds(words) is None
