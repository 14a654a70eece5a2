"""Four hospitals predict heart disease together: who gains, who loses, and against what.

    python examples/hospitals/hospitals.py                        # the data as they are
    python examples/hospitals/hospitals.py --flipped hungarian    # a third of one's labels wrong

Rows and columns are FLamby's (arXiv:2210.04620): ``slope``, ``ca`` and ``thal`` are dropped, then
rows with gaps, and the label is ``num > 0``. The model is softmax regression; a third of each
hospital's rows is held out, anew in each split.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import fedrms

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
DROPPED = ["slope", "ca", "thal"]
HELD_OUT = 0.34
ROWS = {
    "FedAvg": ["strategy=fedavg"],
    "FedRMS": ["strategy=fedrms"],
    "FedRMS, all excess": ["strategy=fedrms", "+strategy.law_options.mixture=0"],
    "oracle": ["strategy=oracle", "strategy.mode=clean_only"],
}
SETTINGS = ["rounds=40", "client.epochs=1", "client.batch_size=16", "client.lr=0.05"]


def read(folder: Path) -> pd.DataFrame:
    """Return all hospitals' rows: numbers, one-hot codes, ``hospital``, ``label`` and ``truth``."""
    tables = [pd.read_csv(folder / f"{name}.csv").assign(hospital=name) for name in HOSPITALS]
    rows = pd.concat(tables, ignore_index=True).drop(columns=DROPPED).dropna()
    rows = rows.assign(label=(rows.pop("num") > 0).astype(int))
    coded = pd.get_dummies(rows, columns=["cp", "restecg"], drop_first=True, dtype=float)
    return coded.assign(truth=coded["label"]).reset_index(drop=True)


def split(rows: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold out a share of the rows of each hospital and label."""
    draw = np.random.default_rng(seed)
    test = np.zeros(len(rows), bool)
    for _, group in rows.groupby(["hospital", "label"]):
        test[draw.permutation(group.index)[: round(HELD_OUT * len(group))]] = True
    return rows[~test], rows[test]


def flip(train: pd.DataFrame, hospital: str, share: float, seed: int) -> pd.DataFrame:
    """Return training rows with a share of one hospital's labels wrong."""
    own = train.index[train["hospital"] == hospital]
    wrong = np.random.default_rng([seed, 1]).permutation(own)[: round(share * len(own))]
    flipped = train.copy()
    flipped.loc[wrong, "label"] = 1 - flipped.loc[wrong, "label"]
    return flipped


def write(folder: Path, train: pd.DataFrame, test: pd.DataFrame) -> None:
    """Write a split where ``fedrms data=parquet data.path=FOLDER`` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    train.to_parquet(folder / "train.parquet")
    test.to_parquet(folder / "test.parquet")


def federated(
    train: pd.DataFrame, test: pd.DataFrame, row: str, seed: int
) -> tuple[pd.Series, pd.Series]:
    """Return by hospital the accuracy, and the weight as a multiple of its share of the rows."""
    data = fedrms.Federation.from_frame(
        train, client="hospital", label="label", true_label="truth", test=test
    )
    with tempfile.TemporaryDirectory() as folder:
        (choice, *more) = ROWS[row]
        done = fedrms.simulate(
            data,
            model="softmax",
            strategies=[choice.removeprefix("strategy=")],
            seeds=[seed],
            folder=folder,
            overrides=[*SETTINGS, *more],
        )
    clients = done.clients
    last = clients[clients["round"] > clients["round"].max() - 5]
    means = last.groupby("client", observed=True)[
        ["test_accuracy", "weight", "num_examples"]
    ].mean()
    shares = means["num_examples"] / means["num_examples"].sum()
    return means["test_accuracy"], means["weight"] / shares


def alone(train: pd.DataFrame, test: pd.DataFrame, pooled: bool) -> pd.Series:
    """Return by hospital the accuracy of logistic regression on its own rows, or on all."""
    features = train.columns.difference(["hospital", "label", "truth"])
    scores = {}
    for hospital, own in test.groupby("hospital"):
        rows = train if pooled else train[train["hospital"] == hospital]
        mean, spread = rows[features].mean(), rows[features].std().replace(0.0, 1.0)
        model = LogisticRegression(max_iter=1000)
        model.fit(((rows[features] - mean) / spread).to_numpy(), rows["label"])
        right = model.predict(((own[features] - mean) / spread).to_numpy()) == own["label"]
        scores[hospital] = float(right.mean())
    return pd.Series(scores)


def compare(
    folder: Path, seeds: Sequence[int], flipped: str | None = None, share: float = 1 / 3
) -> pd.DataFrame:
    """Return one row a split, way and hospital: ``accuracy`` and ``weight``."""
    rows, found = read(folder), []
    for seed in seeds:
        train, test = split(rows, seed)
        if flipped is not None:
            train = flip(train, flipped, share, seed)
        results = {
            "local": (alone(train, test, pooled=False), np.nan),
            "pooled": (alone(train, test, pooled=True), np.nan),
        }
        for row in ROWS:
            if row != "oracle" or flipped is not None:
                results[row] = federated(train, test, row, seed)
        tested = test.groupby("hospital").size()
        for way, (accuracy, weight) in results.items():
            told = {"split": seed, "way": way, "accuracy": accuracy, "weight": weight}
            found.append(pd.DataFrame(told | {"tested": tested}).rename_axis("hospital"))
    return pd.concat(found).reset_index()


def page(found: pd.DataFrame) -> str:
    """Return a table in Markdown: accuracy by hospital in per cent, and against FedAvg."""
    lines = [
        "| | " + " | ".join([*HOSPITALS, "all rows", "least weight"]) + " |",
        "|:--|" + "--:|" * (len(HOSPITALS) + 2),
    ]
    base = found[found["way"] == "FedAvg"].set_index(["split", "hospital"])
    for way in found["way"].unique():
        own = found[found["way"] == way].set_index(["split", "hospital"])
        cells = []
        for hospital in (*HOSPITALS, None):
            score, against = (_accuracy(one, hospital) for one in (own, base))
            apart = (score - against) * 100
            error = apart.std(ddof=1) / np.sqrt(len(apart))
            told = f"{score.mean() * 100:.1f}"
            cells.append(told if way == "FedAvg" else f"{told} ({apart.mean():+.1f} ± {error:.1f})")
        weight = own["weight"].groupby("hospital").mean().min()
        cells.append("-" if np.isnan(weight) else f"{weight:.2f}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _accuracy(rows: pd.DataFrame, hospital: str | None) -> pd.Series:
    """Return by split the accuracy at one hospital, or over all test rows."""
    if hospital is not None:
        return rows["accuracy"].xs(hospital, level="hospital")
    right = (rows["accuracy"] * rows["tested"]).groupby("split").sum()
    return right / rows["tested"].groupby("split").sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flipped", choices=HOSPITALS, help="whose labels are wrong")
    parser.add_argument("--share", type=float, default=1 / 3, help="and how many of them")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--write", type=Path, help="write the first split there, and end")
    given = parser.parse_args()
    if given.write is not None:
        train, test = split(read(given.data), given.first)
        if given.flipped is not None:
            train = flip(train, given.flipped, given.share, given.first)
        write(given.write, train, test)
        return
    logging.disable(logging.WARNING)
    seeds = range(given.first, given.first + given.splits)
    print(page(compare(given.data, seeds, given.flipped, given.share)))


if __name__ == "__main__":
    main()
