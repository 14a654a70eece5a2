"""A model of a person's own whose errors are of odd kinds."""

import os
import sys

import torch


class MuteError(Exception):
    """Cannot say what it is about."""

    def __str__(self):
        raise RuntimeError


class PrivateError(BaseException):
    """Is no Exception."""


def _deeper(depth=0):
    return _deeper(depth + 1)


def _interrupt():
    raise KeyboardInterrupt


def _mute():
    raise MuteError


def _private():
    raise PrivateError("of its own")


def _unwritable():
    raise ValueError("half a \udcff character,\n\x1b[31m red")


def _long():
    raise ValueError("x" * 100_000)


def _memory():
    raise MemoryError


FAULTS = {
    "exit": lambda: sys.exit(0),
    "os_exit": lambda: os._exit(0),
    "interrupt": _interrupt,
    "deep": _deeper,
    "mute": _mute,
    "private": _private,
    "unwritable": _unwritable,
    "long": _long,
    "memory": _memory,
}


class Odd(torch.nn.Module):
    """A linear model that fails when it is called, if it is to fail."""

    def __init__(self, fault="none", **others):
        super().__init__()
        self.layer, self.fault = torch.nn.Linear(64, 10), fault

    def forward(self, x):
        """Fail, or return scores."""
        if self.fault in FAULTS:
            FAULTS[self.fault]()
        return self.layer(x.flatten(1))
