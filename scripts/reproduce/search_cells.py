"""What ``search_default`` runs: variants by scenarios by tuning seeds, each kept once done."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

VARIANTS = {
    "fedavg": ("strategy=fedavg",),
    "oracle, clean clients": ("strategy=oracle", "strategy.mode=clean_only"),
    "oracle, true rates": ("strategy=oracle", "strategy.mode=true_rate"),
    "excess (default)": ("strategy=fedrms",),
    "excess, ratio": ("search_excess.Excess", "+strategy.variant=ratio"),
    "excess, no tilt": ("strategy=fedrms", "+strategy.law_options.tilt=0"),
    "excess, all of it noise": ("strategy=fedrms", "+strategy.law_options.mixture=0"),
    "excess, fixed eps": ("search_excess.Excess", "+strategy.variant=fixed_eps"),
    "excess, mean reference": ("search_excess.Excess", "+strategy.variant=mean_reference"),
    "excess, reference .1": ("strategy=fedrms", "+strategy.law_options.reference=0.1"),
    "excess, clean share .2": ("strategy=fedrms", "+strategy.law_options.clean_share=0.2"),
    "excess, every claim believed": ("strategy=fedrms", "+strategy.law_options.corroboration=0"),
    "excess, corroboration 4": ("strategy=fedrms", "+strategy.law_options.corroboration=4"),
    "excess, all classes pooled": ("strategy=fedrms", "+strategy.num_classes=1"),
    "learned hardness": ("search_excess.Excess", "+strategy.variant=learned_hardness"),
    "dead zone": ("strategy=fedrms_deadzone",),
    "rmsprop": ("strategy=fedrms", "strategy.law=rmsprop"),
    "literal text": ("strategy=fedrms_text",),
    "random effects, median tau": ("strategy=fedrms", "strategy.law=random_effects"),
    "random effects, DL tau": ("search_moments.RandomEffects", "strategy.law=uniform"),
    "population reference": ("search_moments.AbovePopulation",),
    "mixture on log r": ("search_moments.Mixture",),
    "agreement of updates": ("search_moments.Agreement", "strategy.law=uniform"),
}
"""A variant's overrides; a name of a class stands for strategy=fedrms of that class."""

BASELINE, ORACLES, DEFAULT = (
    "fedavg",
    ("oracle, clean clients", "oracle, true rates"),
    "excess (default)",
)

POOLED = ("data.pool=2", "model.hidden=[32]", "client.lr=0.1")
"""Images averaged to 14x14 and an MLP 196-32-10: a third of the time."""

SCENARIOS = {
    "s1": ("experiment=mnist_noise/s1", *POOLED),
    "s2": ("experiment=mnist_noise/s2", *POOLED),
    "s3_raw": ("experiment=mnist_noise/s3",),
    "s5": ("experiment=mnist_noise/s5", *POOLED),
    "s6": ("experiment=mnist_noise/s6", *POOLED),
    "s7": ("experiment=mnist_noise/s7", *POOLED),
    "pair_flips": ("experiment=mnist_noise/pair_flips", *POOLED),
    "noisy_90": ("experiment=mnist_noise/noisy_90", *POOLED),
    "short_s2": ("experiment=short_local/s2", *POOLED),
    "fednoisy": ("experiment=fednoisy/rate_04", *POOLED),
    "fednoisy_mix": ("experiment=fednoisy/rate_04_dirichlet", *POOLED),
    "all_tiny": ("experiment=liars/all_tiny", *POOLED),
    "two_fifth": (
        *("experiment=liars/all_tiny", *POOLED),
        *("adversary.fraction=0.25", "adversary.loss_share=0.2"),
    ),
    "cifar_s6": (
        *("experiment=fedcorr/minority", "data.pool=4", "data.examples_per_client=200"),
        *("model.channels=[8,16]", "rounds=15"),
    ),
}
"""Those of the tables, at a size that a search can afford."""

NO_GAP = ("s5", "fednoisy", "fednoisy_mix")
"""Nobody is cleaner than others there: no oracle, and the difference to FedAvg is told."""


SEEDS = (40, 41)
"""Tuning seeds, other than those that the default was chosen on."""
SEEDS_OF = dict.fromkeys(("s3_raw", "fednoisy", "cifar_s6"), (40,))
"""Fewer where a run takes long, or tells little."""


@dataclass(frozen=True)
class Cell:
    """One run."""

    scenario: str
    variant: str
    seed: int

    @property
    def overrides(self) -> list[str]:
        """What ``fedrms`` is started with."""
        first, *rest = VARIANTS[self.variant]
        if "=" not in first:
            first, rest = "strategy=fedrms", [f"strategy._target_={first}", *rest]
        return [*SCENARIOS[self.scenario], first, *rest, f"seed={self.seed}", "fairness=none"]


def cells(scenarios: Sequence[str], variants: Sequence[str], most: int) -> list[Cell]:
    """Return all runs on the first `most` seeds; runs on the same data follow each other."""
    return [
        Cell(scenario, variant, seed)
        for place in range(most)
        for scenario in scenarios
        for seed in SEEDS_OF.get(scenario, SEEDS)[place : place + 1]
        for variant in variants
        if not (scenario in NO_GAP and variant in ORACLES)
    ]


def run_all(
    wanted: Sequence[Cell], folder: Path, processes: int
) -> Iterator[tuple[Cell, dict[str, float]]]:
    """Run what is not there yet, in processes of one thread each, and give every cell's numbers."""
    there = dict(finished(wanted, folder))
    yield from there.items()
    todo = [cell for cell in wanted if cell not in there]
    with ProcessPoolExecutor(processes) as pool:
        futures = {pool.submit(run, cell, folder): cell for cell in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def finished(
    wanted: Sequence[Cell], folder: Path, processes: int = 0
) -> Iterator[tuple[Cell, dict[str, float]]]:
    """Give the numbers of the cells that are there already, and run nothing."""
    for cell in wanted:
        with contextlib.suppress(OSError, ValueError):
            yield cell, json.loads(_kept(cell, folder).read_text())


def run(cell: Cell, folder: Path) -> dict[str, float]:
    """Run a cell, and keep its numbers; one that diverges has an accuracy of 0."""
    import torch

    import fedrms
    from fedrms.errors import RunError

    torch.set_num_threads(1)
    kept = _kept(cell, folder)
    started = time.perf_counter(), os.times()
    try:
        summary = fedrms.run(cell.overrides, folder=kept.with_suffix(""), brief=True).summary
        numbers = {"accuracy": float(summary["final_accuracy"])}
        numbers["worst_client"] = float(summary["worst_client_accuracy"])
    except RunError:
        numbers = {"accuracy": 0.0, "worst_client": 0.0}
    now = os.times()
    numbers["seconds"] = time.perf_counter() - started[0]
    numbers["cpu_seconds"] = now.user + now.system - started[1].user - started[1].system
    aside = kept.with_suffix(".tmp")
    aside.write_text(json.dumps(numbers))
    aside.replace(kept)
    return numbers


def _kept(cell: Cell, folder: Path) -> Path:
    variant = "".join(c if c.isalnum() else "-" for c in cell.variant)
    return folder / f"{cell.scenario}-{variant}-seed{cell.seed}.json"
