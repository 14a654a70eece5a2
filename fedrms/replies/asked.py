"""What a strategy asked of a round, even where a subclass makes the messages itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Message

CONFIGURES = ("configure_train", "configure_evaluate")


@dataclass(frozen=True)
class Asked:
    """The messages of a round and the model that they carry."""

    server_round: int
    arrays: ArrayRecord
    messages: Sequence[Message]


class NotesWhatIsAsked:
    """Note the messages that any ``configure_train`` or ``configure_evaluate`` returns.

    Subclasses may make messages anew, or return a generator, as Flower's documentation shows;
    who was asked, and by which message, is what tells an answer from a stranger's. A generator
    becomes a list, for a SuperLink's grid reads messages twice.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Note what a subclass's own methods return."""
        super().__init_subclass__(**options)
        for name in CONFIGURES:
            if name in vars(cls):
                setattr(cls, name, _noting(name, vars(cls)[name]))

    def asked(self, name: str, server_round: int) -> Asked | None:
        """Return what ``configure_train`` or ``configure_evaluate`` asked of a round.

        None where it was not called for this round, as in a loop of one's own.
        """
        noted: Asked | None = vars(self).get("_asked", {}).get(name)
        return noted if noted is not None and noted.server_round == server_round else None


def _noting(
    name: str, configure: Callable[..., Iterable[Message]]
) -> Callable[..., Sequence[Message]]:
    @functools.wraps(configure)
    def configured(
        self: NotesWhatIsAsked, server_round: int, arrays: ArrayRecord, *further: Any, **named: Any
    ) -> Sequence[Message]:
        made = configure(self, server_round, arrays, *further, **named)
        messages = made if isinstance(made, Sequence) else list(made)
        noted = vars(self).setdefault("_asked", {})
        noted[name] = Asked(server_round, arrays, messages)
        return messages

    return configured
