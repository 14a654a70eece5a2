"""The folder of a run: made, and told what the run is, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord
from omegaconf import DictConfig, OmegaConf

from fedrms.data.federation import AnyFederation
from fedrms.errors import ConfigError
from fedrms.results.atomic import replace_file
from fedrms.results.partition_table import write_partition
from fedrms.results.seal import write_text


def save_model(path: Path, arrays: ArrayRecord) -> None:
    """Write the global model as safetensors, in one step."""
    from safetensors.torch import save

    tensors = {name: torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}
    content = save(tensors)
    replace_file(path, lambda file: file.write(content))


def prepare_folder(
    folder: Path, config: DictConfig | Mapping[str, Any], resolved: Mapping[str, Any]
) -> None:
    """Make the folder, and keep the configuration in it as Hydra's own runs do."""
    with writing_to(folder):
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        if isinstance(config, DictConfig):
            _keep_config(folder / ".hydra", config, resolved)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a folder that cannot be written to into a `ConfigError`, before training."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "hydra.run.dir", f"cannot write to {folder}: {error}", "make room, or choose another"
        ) from error


def _keep_config(folder: Path, config: DictConfig, resolved: Mapping[str, Any]) -> None:
    if "hydra" in config:
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        overrides = OmegaConf.to_container(config.hydra.overrides)
        kept = {"hydra": {"runtime": {"choices": choices}, "overrides": overrides}}
        write_text(folder / "hydra.yaml", OmegaConf.to_yaml(kept))
    text = OmegaConf.to_yaml(OmegaConf.create(dict(resolved)))
    write_text(folder / "config.yaml", text)  # last: with it a run is there


def keep_partition(folder: Path, federation: AnyFederation) -> None:
    """Write down who holds which classes; of a population nobody knows without asking all."""
    counts = federation.class_table()
    if counts is not None:
        names, classes = federation.names, federation.class_names
        with writing_to(folder):
            write_partition(folder, counts, federation.rare, classes, names)
