"""What a run's app and the gate tell each other, by two files in the server's private home.

The app rings when it has left messages for clients, so that the gate knows when there are none.
The gate names replies whose sender is gone and has not sent them whole, and messages whose
receiver is gone and has not answered, so that nobody waits for them.
"""

from __future__ import annotations

from pathlib import Path


class Bell:
    """One process appends to a file, and another looks how long it is.

    Parameters
    ----------
    path : Path
        The bell's; what is given up stands beside it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lost = path, path.with_suffix(".lost")
        self._read = 0
        self._given_up: set[str] = set()

    def ring(self) -> None:
        """Say that there are messages that were not there before."""
        with self._path.open("ab") as file:
            file.write(b".")

    def rung(self) -> int:
        """Return how often it has rung; 0 before the first time."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def give_up(self, reply: str) -> None:
        """Say that the rest of a reply, or any to a message, by its identifier, will not come."""
        with self._lost.open("a") as file:
            file.write(f"{reply}\n")

    def given_up(self, reply: str) -> bool:
        """Say whether the rest of a reply, or any to a message, will not come."""
        return reply in self.lost()

    def lost(self) -> set[str]:
        """Return the identifiers of all that was given up."""
        if self._lost.is_file() and (size := self._lost.stat().st_size) != self._read:
            self._given_up, self._read = set(self._lost.read_text().split()), size
        return self._given_up
