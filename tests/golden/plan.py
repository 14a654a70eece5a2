"""Small runs over what the simulator can do; what they give is recorded beside this file.

``python tests/golden/plan.py FOLDER [NAME ..]`` makes them with whichever ``fedrms`` is imported,
so that another checkout's code can be run by this plan.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import fedrms

Words = Sequence[str]

EVERYWHERE = ("device=cpu", "engine.threads=1")
SMALL = ("rounds=3", "clients=6", "data.examples_per_client=60", "data.test_examples=120")
"""Of every run on digits, unless it says otherwise."""
STRATEGIES = (
    *("fedavg", "oracle", "term", "term_tiered", "qffl", "afl", "arfl", "dga_loss"),
    *("dga_variance", "fednoro", "precision_weighted", "rfa", "trimmed_mean", "fedrms_robust"),
)
FLOWERS = ("flwr_fedavg", "fedadam", "krum", "qfedavg")
"""Strategies of Flower's own."""
LAWS = ("rmsprop", "deadzone", "random_effects", "softmax")


def runs(folder: Path) -> Mapping[str, Sequence[Words]]:
    """Return each run's words; where there are several, each goes on with the one before.

    Parameters
    ----------
    folder : Path
        Where the tables lie that some of them read (see :func:`write_tables`).
    """
    digits: dict[str, Words] = {
        "default": (),
        "loop": ("engine.executor=loop",),
        "chunks": ("engine.executor=stacked", "engine.chunk_clients=4"),
        "on_disk": ("engine.memory=200KB",),
        "cnn": ("model=cnn", "rounds=2"),
        "partial": ("client.fraction=0.5",),
        "dropout": ("heterogeneity=mixed",),
        "unequal": ("heterogeneity=unequal", "noise.order=by_work", "seed=4"),
        "liars": ("adversary=liars", "adversary.loss=copy_clean"),
        "attackers": ("adversary=liars", "adversary.update=flip", "strategy=median"),
        "turned": ("appearance=turned",),
        "counterfactual": ("counterfactual=clean", "rounds=2"),
        "validation": ("validation_clients=2",),
        "private": ("client.statistic_dp={clip: 4.0, epsilon: 2.0}", "strategy.clip_norm=1.0"),
        "noised": ("strategy.clip_norm=0.5", "strategy.noise_multiplier=0.1"),
        "local_lr": ("strategy.apply_to=local_lr",),
        "cumulative": ("strategy.memory=cumulative", "strategy.law_options={tilt: 0.0}"),
        "sgd_by_steps": ("client.steps=5", "client.momentum=0.9", "client.clip_norm=1.0"),
        "rmsprop": ("optimizer=rmsprop", "server_optimizer=adam"),
        "fedprox": ("strategy=fedprox",),
        "drift": ("noise.drift=[{round: 2, levels: shuffle}]",),
        **{f"noise_{name}": (f"noise={name}",) for name in ("beta", "fedcorr", "feature")},
        **{f"noise_{name}": (f"noise={name}",) for name in ("label_pairflip", "missing", "none")},
        **{f"law_{name}": (f"strategy.law={name}",) for name in LAWS},
        **{name: (f"strategy={name}",) for name in (*STRATEGIES, *FLOWERS)},
    }
    for name in ("iid", "shards", "minority", "quantity", "fedcorr"):
        digits[f"partition_{name}"] = (f"partition={name}",)
    digits["partition_quantity"] += ("data.examples_per_client=null",)
    single = {name: [_merged(SMALL, own)] for name, own in digits.items()}
    tables = ("rounds=2", "model=linear")
    return single | {
        "resumed": [_merged(SMALL, ("rounds=2",)), ("rounds=4",)],
        "csv": [("data=csv", f"data.path={folder / 'people.csv'}", *tables)],
        "parquet": [
            (
                *("data=parquet", f"data.path={folder / 'sites.parquet'}", *tables),
                *("data.client_column=site", "data.true_label_column=truth"),
            )
        ],
        "population": [("data=population", "clients=40", "client.fraction=0.2", *tables)],
        "regression": [("data=regression", "noise=target", "clients=6", *tables)],
        "synthetic": [("data=synthetic", "clients=5", "client.lr=0.01", *tables)],
        "lab_valley": [("experiment=lab/valley", "rounds=3")],
        "lab_gan": [("experiment=lab/gan", "rounds=2")],
        "lab_policy": [("experiment=lab/policy", "rounds=2", "clients=4")],
    }


def write_tables(folder: Path) -> None:
    """Write a person's tables: one in CSV, one in Parquet that says whose each row is."""
    draw = np.random.default_rng(5)
    x = draw.normal(size=(240, 4)).round(3)
    truth = (x[:, 0] + x[:, 1] > 0).astype(int)
    flipped = draw.random(240) < 0.25
    people = pd.DataFrame(x, columns=["age", "height", "weight", "dose"])
    people["colour"] = draw.choice(["red", "green", "blue"], 240)
    people["label"] = np.where(truth > 0, "ill", "well")
    people.to_csv(folder / "people.csv", index=False)
    sites = people.drop(columns="colour").assign(
        site=draw.choice(["north", "south", "east"], 240),
        truth=truth,
        label=np.where(flipped, 1 - truth, truth),
    )
    sites.to_parquet(folder / "sites.parquet")


def _merged(first: Words, then: Words) -> Words:
    """Return words without those that a later one replaces."""
    said = {word.split("=")[0] for word in then}
    return (*(word for word in first if word.split("=")[0] not in said), *then)


def make(steps: Sequence[Words], folder: Path) -> None:
    """Run the first words, and go on with each of the others."""
    first, *more = steps
    fedrms.run([*EVERYWHERE, *first], folder=folder, brief=True)
    for words in more:
        fedrms.run([f"resume={folder}", *words], brief=True)


def main(arguments: Sequence[str]) -> None:
    """Make all runs, or those that are named."""
    folder = Path(arguments[0]).resolve()
    tables = folder / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    write_tables(tables)
    for name, steps in runs(tables).items():
        if not arguments[1:] or name in arguments[1:]:
            make(steps, folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
