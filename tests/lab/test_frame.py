"""What every experiment of the lab has, and what is written of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from fedrms.cli.lab import main, verdict_words
from fedrms.cli.options import experiments
from fedrms.cli.simulate import main as simulate
from fedrms.client import as_function
from fedrms.conf_folder import conf_folder
from fedrms.errors import ConfigError
from fedrms.lab.catalog import available, load
from fedrms.lab.descent import descend, noiseless, noisy, optimizer, traced_steps
from fedrms.lab.report import Finding, page, publish, row, write
from fedrms.lab.tasks import Objective
from fedrms.lab.tasks.landscapes import Valley
from fedrms.lab.verdict import Claim


@pytest.mark.long
@pytest.mark.parametrize("name", available())
def test_an_experiment_judges_each_of_its_claims_and_draws(name, quick, tmp_path):
    finding = quick(name)
    assert set(finding.verdicts) == set(finding.experiment.CLAIMS)
    for key, verdict in finding.verdicts.items():
        assert verdict.claim == finding.experiment.CLAIMS[key]
    write(finding, tmp_path)
    told = json.loads((tmp_path / f"{name}.json").read_text())
    assert set(told["claims"]) == set(finding.verdicts)
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(finding.table)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", available())
def test_an_experiment_is_a_run_of_the_simulator_and_a_page_of_the_site(name, repository):
    assert f"lab/{name}" in experiments(conf_folder())
    assert f"lab/{name}.md" in (repository / "mkdocs.yml").read_text()


def test_a_verdict_is_json_whatever_its_numbers(quick, tmp_path):
    found = quick("units")
    numbers = {"steps": math.inf, "gain": -math.inf, "slope": math.nan, "share": 0.5}
    endless = {key: replace(verdict, numbers=numbers) for key, verdict in found.verdicts.items()}
    write(replace(found, verdicts=endless), tmp_path)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    told = json.loads((tmp_path / "units.json").read_text(), parse_constant=refuse)
    for claim in told["claims"].values():
        assert claim["numbers"] == {"steps": "inf", "gain": "-inf", "slope": "nan", "share": 0.5}


@pytest.mark.parametrize("name", available())
def test_the_page_says_what_is_judged_of_its_table(name, repository):
    experiment = load(name)
    table = pd.read_csv(repository / f"docs/lab/{name}.csv", keep_default_na=False, na_values=[""])
    told = json.loads((repository / f"docs/lab/{name}.json").read_text())["claims"]
    verdicts = experiment.judge(table)
    for key, verdict in verdicts.items():
        published = {k: float(value) for k, value in told[key]["numbers"].items()}
        assert told[key]["outcome"] == verdict.outcome
        # The table has six digits.
        assert verdict.numbers == pytest.approx(published, rel=0.02, abs=1e-5, nan_ok=True)
        verdicts[key] = replace(verdict, numbers=published)
    finding = Finding(name, experiment, False, table, verdicts, 0.0)
    assert page(finding) == (repository / f"docs/lab/{name}.md").read_text()
    assert row(finding) in (repository / "docs/lab.md").read_text().splitlines()


@pytest.mark.parametrize(
    ("holds", "in_part", "outcome"),
    [
        (True, False, "holds"),
        (True, True, "holds"),
        (False, True, "holds in part"),
        (False, False, "does not hold"),
    ],
)
def test_a_claim_that_holds_is_not_said_to_hold_in_part(holds, in_part, outcome):
    assert (
        Claim("it is", "if it is").judge(holds, in_part, numbers={"share": 0.5}).outcome == outcome
    )


def test_publishing_leaves_the_other_rows_as_they_are(quick, tmp_path):
    index = tmp_path / "lab.md"
    index.write_text("above\n| [units](lab/units.md): former text |\n| [valley](lab/valley.md) |\n")
    finding = quick("units")
    publish(finding, tmp_path)
    publish(finding, tmp_path)
    assert index.read_text() == f"above\n{row(finding)}\n| [valley](lab/valley.md) |\n"
    assert (tmp_path / "lab" / "units.md").read_text() == page(finding)


def test_a_page_without_a_row_for_it_is_told_before_anything_is_written(quick, tmp_path):
    (tmp_path / "lab.md").write_text("| [valley](lab/valley.md) |\n")
    with pytest.raises(ConfigError, match="has no row"):
        publish(quick("units"), tmp_path)
    assert not (tmp_path / "lab").exists()


def test_an_unknown_experiment_is_refused_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["nothing-like-it"])
    assert stopped.value.code == 2
    assert "valley" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        load("nothing-like-it")


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["experiment=lab/valley", "quick=true"], ["valley", "--quick"]),
        (["+experiment=lab/valley,lab/units", "quick=false"], ["valley", "units"]),
        (["experiment=lab/valley"], None),
        (["experiment=tune", "quick=true"], None),
        (["quick=true"], None),
    ],
)
def test_quick_asks_the_simulators_command_for_the_verdict(words, asked):
    assert verdict_words(words) == asked


@pytest.mark.parametrize(("word", "told"), [("rounds=3", "rounds=3"), ("quick=1", "true or false")])
def test_a_verdict_takes_no_setting_of_a_run(word, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        simulate(["+experiment=lab/units", "quick=true", word])
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err


def valley():
    return Objective(lambda: Valley((2,))), Valley((2,), condition=4.0, start=[1.0, 2.0])


def test_a_descent_is_that_of_torchs_optimizer_for_every_step_size():
    task, module = valley()
    lrs = [0.3, 0.01, 0.1]
    path = descend(task, module, optimizer("rmsprop", alpha=0.9), lrs, noiseless(3, 2), 20)
    assert path.params.shape == (21, 3, 2)
    for k, lr in enumerate(lrs):
        model = Valley((2,), condition=4.0, start=[1.0, 2.0])
        stepping = torch.optim.RMSprop(model.parameters(), lr=lr, alpha=0.9)
        for t in range(20):
            np.testing.assert_allclose(path.params[t, k], model.w.detach(), rtol=0, atol=1e-5)
            stepping.zero_grad()
            loss = model(torch.zeros(1, 2))[0]
            assert path.losses[t, k] == pytest.approx(loss.item(), rel=1e-4, abs=1e-9)
            loss.backward()
            stepping.step()


def test_a_descent_ends_where_all_are_done_and_says_when_each_was():
    task, module = valley()
    path = descend(
        task,
        module,
        optimizer("gd"),
        [0.5, 1.0],
        noiseless(2, 2),
        5000,
        until=lambda w: np.abs(w).max(1) < 1e-3,
    )
    assert path.steps == 256
    first = path.first(np.abs(path.params).max(2) < 1e-3)
    # The slower direction, from 2, shrinks by 1 - lr / 4 a step.
    assert first.tolist() == [57, 27]


def test_runs_of_a_stack_see_the_same_noise_or_their_own():
    alike, own = (noisy(3, [1.0, 5.0], seed=1, same=same)(0)["x"] for same in (True, False))
    assert torch.equal(alike[0], alike[2])
    assert not torch.equal(own[0], own[2])
    draws = torch.stack([noisy(1, [1.0, 5.0], seed=s, batch_size=200)(0)["x"] for s in range(20)])
    assert draws.flatten(0, 2).std(0).tolist() == pytest.approx([1.0, 5.0], rel=0.05)


def test_a_descent_starts_where_it_is_told_to():
    task, module = valley()
    starts = np.array([[3.0, 4.0], [5.0, 6.0]])
    path = descend(task, module, optimizer("gd"), [0.1, 0.1], noiseless(2, 2), 2, starts=starts)
    np.testing.assert_allclose(path.params[0], starts)
    value = as_function(module)({"w": torch.tensor([3.0, 4.0])}, torch.zeros(1, 2))
    assert path.losses[0, 0] == pytest.approx(value.item())


def test_descents_that_share_traced_steps_take_the_paths_of_those_that_do_not():
    task, module = valley()
    graphs = traced_steps()
    for name in ("gd", "adam", "rmsprop"):
        given = task, module, optimizer(name), [0.1, 0.01], noiseless(2, 2), 12
        shared, own = descend(*given, graphs=graphs), descend(*given)
        np.testing.assert_array_equal(shared.params, own.params)
