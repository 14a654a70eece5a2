"""What the page says of clients in other units."""

from __future__ import annotations

from fedrms.other_units import OTHER_UNITS, ROUNDS, sentence
from fedrms.results.runs import Runs


def unit_notes(runs: Runs) -> list[str]:
    """Return a sentence for each set of clients that had other units in most of their rounds."""
    clients = runs.clients
    if OTHER_UNITS not in clients:
        return []
    told = clients[clients[OTHER_UNITS].notna()]
    rounds = told.groupby(["run", "client"], observed=True)[OTHER_UNITS].agg(["mean", "size"])
    sure = rounds[(rounds["mean"] > 0.5) & (rounds["size"] >= ROUNDS)].reset_index()
    names = [tuple(map(str, ids)) for _, ids in sure.groupby("run", observed=True)["client"]]
    return [sentence(each) for each in dict.fromkeys(names)]
