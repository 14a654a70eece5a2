from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedrms.data import Dataset, Examples, Federation, build

Build = Callable[..., Federation]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDRMS_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def build_digits() -> Build:
    """Build a federation of digits; keywords override."""

    def build_one(
        seed: int = 0,
        clients: int = 20,
        data: dict[str, Any] | None = None,
        partition: dict[str, Any] | None = None,
        noise: dict[str, Any] | None = None,
    ) -> Federation:
        return build(
            seed=seed,
            clients=clients,
            data={"name": "digits", **(data or {})},
            partition=partition or {"name": "iid"},
            noise=noise or {"name": "none"},
        )

    return build_one


def labelled(labels: Any, classes: int, **more: Any) -> Dataset:
    """Return a data set whose only feature is the row number."""
    y = np.asarray(labels, np.int64)
    x = np.arange(len(y), dtype=np.float32)[:, None]
    return Dataset(Examples(x, y), Examples(x, y), "classification", classes, (1,), **more)
