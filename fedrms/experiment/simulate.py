"""Compare strategies on one federation over seeds, from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrms.data.own_data import OwnData
from fedrms.errors import ConfigError
from fedrms.experiment.own_config import Told, configured, named
from fedrms.experiment.run import run
from fedrms.results import Runs, compare, load_runs
from fedrms.results.own_folder import by_the_clock, take_free

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Simulation(Runs):
    """The runs of :func:`simulate`: :class:`fedrms.Runs` that shows its paired comparison.

    Attributes
    ----------
    folder : Path
        Where every run has its folder, as the command line would have written it.
    baseline : str
        The strategy that others are compared with.
    """

    folder: Path
    baseline: str

    @property
    def runs(self) -> Runs:
        """Itself, as once it held its runs in an attribute."""
        return self

    @property
    def models(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The final models' tensors by name, by (strategy, seed)."""
        from safetensors.torch import load_file

        told = self.summary[["run", "strategy", "seed"]].itertuples(index=False)
        found = {(str(s), int(seed)): self.folder / str(name) for name, s, seed in told}
        return {key: load_file(path / "model.safetensors") for key, path in found.items()}

    def compare(self, **options: Any) -> pd.DataFrame:
        """Return the paired comparison; see :func:`fedrms.compare`."""
        return compare(self, **{"baseline": self.baseline, **options})

    def report(self, **options: Any) -> Path:
        """Write the page of ``fedrms-report`` and return its path."""
        from fedrms.results.report import write_report

        folders = [self.folder / str(name) for name in self.summary["run"]]
        return write_report(folders, **{"baseline": self.baseline, **options}).page

    def __str__(self) -> str:
        """Return the comparison as text."""
        from fedrms.results.table import comparison_notes, comparison_table, to_text

        comparison = self.compare()
        return f"{to_text(comparison_table(comparison))}\n{comparison_notes(comparison)}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        from fedrms.results.table import comparison_notes

        comparison = self.compare()
        metric = comparison.attrs["metric"]
        table = comparison.reset_index().rename(columns={"mean": metric})
        shown = table.dropna(axis="columns", how="all").to_html(index=False, border=0)
        return f"{shown}<p><small>{escape(comparison_notes(comparison))}</small></p>"


def simulate(
    data: OwnData | str,
    *,
    model: Any = None,
    loss: Any = None,
    strategies: Iterable[Any] = ("fedavg", "fedrms"),
    seeds: Iterable[int] = (0,),
    rounds: int | None = None,
    lr: float | None = None,
    folder: str | Path | None = None,
    overrides: Sequence[str] = (),
    **groups: Any,
) -> Simulation:
    """Train every strategy on every seed, as ``fedrms -m`` does, and read the runs.

    Parameters
    ----------
    data : OwnData or str
        What ``fedrms.Federation.from_frame`` and its like return, or the name of built-in data.
    model : str, callable, class or nn.Module, optional
        A name of the group ``model``; a factory, whose weights follow the seed; or a model, from
        whose weights every run starts.
    loss : callable or nn.Module, optional
        Of (outputs, targets), one number an example or with ``reduction``; by default
        cross-entropy, or the squared error. As ``loss._target_`` on the command line.
    strategies : iterable of str or flwr Strategy
        Names of the group ``strategy``, or strategies, each copied for every run. The first, or
        ``fedavg`` where it is among them, is what the others are compared with.
    seeds : iterable of int
        Runs of one seed share clients, noise, initial model and batches.
    rounds, lr : optional
        ``rounds`` and ``client.lr``.
    folder : path, optional
        Where the runs are written; by default ``outputs/<date>/<time>``.
    overrides : sequence of str
        As on the command line: ``["client.epochs=2", "noise=label"]``.
    **groups
        Top keys: ``clients=10``, ``partition="iid"``, ``noise={"name": "label", "high": .5}``,
        ``metric="auc"`` or ``["auc", "recall"]``, of which the first is what is compared.

    Returns
    -------
    Simulation

    Raises
    ------
    ConfigError
        Before any training, naming the key and the remedy.
    """
    told = Told(data, model, loss, {**groups, "rounds": rounds, "client.lr": lr}, tuple(overrides))
    if not isinstance(seeds, Iterable):
        raise ConfigError("seeds", f"{seeds!r} is one number", f"give seeds=range({seeds})")
    chosen, numbers = named(strategies), [int(seed) for seed in seeds]
    if not chosen or not numbers:
        raise ConfigError("strategies", "there is nothing to run", "give strategies and seeds")
    with ExitStack() as held:
        where = Path(folder) if folder else held.enter_context(take_free(by_the_clock())).path
        made = []
        for seed in numbers:
            for name, strategy in chosen.items():
                config = configured(told, seed, name, strategy)
                made.append(where / f"{name}-{seed}")
                run(config, folder=made[-1], brief=True, shared=where)
    baseline = "fedavg" if "fedavg" in chosen else next(iter(chosen))
    return Simulation(**vars(load_runs(made)), folder=where, baseline=baseline)
