"""What the metrics over clients are called on the page; `rounds.parquet` has their short names."""

from __future__ import annotations

from typing import Final

_WORDS: Final = {
    "client_mean": "{metric}, mean over clients",
    "client_std": "{metric}, how far clients lie apart (standard deviation)",
    "client_variance_e4": "{metric}, variance over clients, times 10,000",
    "client_worst": "{metric}, the worst {share} % of the clients",
    "client_best": "{metric}, the best {share} % of the clients",
    "client_min": "{metric}, the worst client",
    "client_jain": "evenness by Jain's index: 1 is even",
    "client_gini": "unevenness by Gini's coefficient: 0 is even",
    "client_entropy": "evenness by entropy: 1 is even",
    "client_cosine": "evenness by cosine: 1 is even",
    "noise_auroc": "noisy clients told from clean ones (AUROC): 1 is all, 0.5 chance",
    "noise_spearman": "order by estimated against true noise (Spearman): 1 is the same",
    "clean_weight_share": "weight of the clean clients, as a share",
    "false_penalty": "weight wrongly taken from clean clients",
    "false_penalty_easy": "of it, from clients that are served well",
    "false_penalty_hard": "of it, from clients that are served badly",
    "false_penalty_rare": "of it, from clients that alone hold a class",
    "least_clean_weight": "least weight of a clean client, over its share of the examples",
    "effective_sample_size": "clients that the weights amount to, if they were equal",
    "objective_clean": "weight of the clean clients over the whole run, as a share",
    "objective_clean_examples": "the same, by number of examples alone",
    "objective_clients": "clients that the whole run's weights amount to, if they were equal",
}


def metric_words(name: str, metric: str, share: float) -> str:
    """Return a metric over clients in plain words; a name that is not known as it is.

    Parameters
    ----------
    name : str
        Column of ``runs.rounds``.
    metric : str
        What models are judged by: ``accuracy``.
    share : float
        Share of the clients that counts as worst and best.
    """
    return (
        _WORDS[name].format(metric=metric, share=f"{100 * share:.4g}") if name in _WORDS else name
    )
