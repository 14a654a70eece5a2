"""An objective without data: the model itself is the function that is minimised.

The model maps draws ``[examples, dimensions]`` to values ``[examples]``. A draw of zero gives
the function itself, which is what the test set holds; what noise adds to a client's draws is
that client's gradient noise, of known level.
"""

from __future__ import annotations

from torch import Tensor

from fedrms.tasks.task import Apply, Batch, BuildsModel, Params


class Objective(BuildsModel):
    """Minimise the model's output.

    Parameters
    ----------
    build_model : callable () -> nn.Module
        Makes a model that maps ``[examples, *shape]`` to values ``[examples]``, such as those
        in :mod:`fedrms.lab.tasks.landscapes`.
    """

    metric = "value"
    higher_is_better = False

    def losses(self, apply: Apply, params: Params, batch: Batch) -> Tensor:
        """Return the value at each draw, ``[examples]``."""
        return apply(params, batch["x"])

    def metrics(self, apply: Apply, params: Params, batch: Batch) -> dict[str, Tensor]:
        """Return ``loss`` and ``value``, both the value at each draw."""
        value = self.losses(apply, params, batch)
        return {"loss": value, "value": value}
