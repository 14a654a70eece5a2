"""Who is timed: fedrms, what a user may write by hand instead, and the peers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Engine:
    """How an engine is run.

    Attributes
    ----------
    runner : str
        File in ``runners/``, without ``.py``.
    environment : str
        Peer whose virtual environment it needs; empty for the one that runs this.
    arguments : tuple of str
        For the runner.
    needs : str
        Module that must be there.
    peer : bool
        Another project's engine, to be compared with.
    by_hand : bool
        Written by hand in any framework: the fastest of these is the ceiling.
    own_block : bool
        Runs all its rounds alone: its workers poll and would disturb the others.
    models : tuple of str
        Models that it runs; empty for all.
    on_gpu : bool
        Whether its runner takes ``--device cuda``.
    """

    runner: str
    environment: str = ""
    arguments: tuple[str, ...] = ()
    needs: str = ""
    peer: bool = False
    by_hand: bool = False
    own_block: bool = False
    models: tuple[str, ...] = ()
    on_gpu: bool = False


DENSE = ("softmax", "mlp")
"""A round of JAX's convolutions inside a loop takes minutes on a processor."""
CONVOLUTIONS = ("cnn", "resnet8")
ENGINES = {
    "fedrms": Engine("fedrms", on_gpu=True),
    "fedrms, law": Engine("fedrms", arguments=("--law", "excess"), on_gpu=True),
    "fedrms, law, fairness": Engine("fedrms_run", arguments=("--adds", "fairness")),
    "fedrms, defaults": Engine("fedrms_run"),
    "fedrms stacked": Engine("fedrms", arguments=("--executor", "stacked"), on_gpu=True),
    "fedrms loop": Engine("fedrms", arguments=("--executor", "loop"), on_gpu=True),
    "fedrms bf16": Engine(
        "fedrms", arguments=("--precision", "bf16"), models=CONVOLUTIONS, on_gpu=True
    ),
    "torch by hand": Engine("ceiling", by_hand=True),
    "torch by hand bf16": Engine(
        "ceiling", arguments=("--precision", "bf16"), models=CONVOLUTIONS, by_hand=True
    ),
    "plain JAX": Engine("jax_round", "fedjax", models=DENSE, by_hand=True),
    "naive loop": Engine("naive", by_hand=True, on_gpu=True),
    "naive loop, channels last": Engine(
        "naive", arguments=("--layout", "channels_last"), models=CONVOLUTIONS, by_hand=True
    ),
    "Flower (Ray)": Engine("flower", needs="ray", peer=True, own_block=True),
    "pfl-research": Engine("pfl", "pfl", peer=True),
    "FedJAX": Engine("fedjax", "fedjax", peer=True),
    "BlazeFL": Engine("blazefl", "blazefl", peer=True),
    "fluke": Engine("fluke", "fluke", peer=True),
}


def absence(engine: Engine, folder: Path, device: str = "cpu") -> str | None:
    """Say why an engine cannot run here, or return None."""
    if device != "cpu" and not engine.on_gpu:
        return "its runner is for the processor alone"
    if engine.needs and find_spec(engine.needs) is None:
        return f"{engine.needs} is not installed"
    if engine.environment and not (folder / engine.environment / "installed").exists():
        said = folder / f"{engine.environment}.absent"
        return said.read_text().strip() if said.exists() else "run scripts/bench/setup-peers"
    return None
