"""Every figure of the report, as a function of a DataFrame.

``fedrms.plots.learning_curves(runs.rounds)`` returns a :class:`Picture`: it shows itself in a
notebook, ``.plotly()`` and ``.matplotlib()`` are figures of these libraries, ``.table`` is what
is drawn, ``.alt`` says it in words.
"""

from fedrms.results.alarms import noise_alarms
from fedrms.results.client_finals import final_clients
from fedrms.results.client_groups import client_groups
from fedrms.results.plots.client_view import gain_table, gains, ranked_clients
from fedrms.results.plots.client_weights import client_weights
from fedrms.results.plots.curves import learning_curves, seconds_per_round
from fedrms.results.plots.data_view import partition, true_noise
from fedrms.results.plots.noise_view import (
    noise_over_rounds,
    scale_against_noise,
    scale_over_rounds,
)
from fedrms.results.plots.picture import Picture
from fedrms.results.plots.sweep_view import differences, heat_map
from fedrms.results.plots.weights_view import weight_shares

__all__ = [
    "Picture",
    "client_groups",
    "client_weights",
    "differences",
    "final_clients",
    "gain_table",
    "gains",
    "heat_map",
    "learning_curves",
    "noise_alarms",
    "noise_over_rounds",
    "partition",
    "ranked_clients",
    "scale_against_noise",
    "scale_over_rounds",
    "seconds_per_round",
    "true_noise",
    "weight_shares",
]


def __dir__() -> list[str]:
    """Show what draws, and not the modules that it is in."""
    return list(__all__)
