"""A SuperNode that is started again for as long as there is a server that it may join.

What stands here is all that watches over a site for months, so it loads neither PyTorch nor Flower.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedrms.deployment.flower_home import FlowerHome, private_home
from fedrms.deployment.options import UNKNOWN_KEY, VARIABLE, ClientOptions
from fedrms.deployment.ports import free_port
from fedrms.deployment.probe import server_answers
from fedrms.deployment.programs import NewLines, Program, find_program
from fedrms.errors import REFUSES, RunError

log = logging.getLogger("fedrms")

REFUSED_SECONDS = 120.0
"""How long a refusal is met by asking again: the server takes a client that vanished for online
for up to a minute."""
LOOK_EVERY = 0.5
PROBE_EVERY, LOST_EVERY = 120.0, 5.0
"""Most seconds between two looks whether the server is there, and those while it is not."""
AWAY = (
    "The server at %s does not answer: its run is over, or will go on. This client waits "
    "%g s for it (client.wait_seconds), then ends"
)
ENDS = "The warm client ends"
CUT_OFF = "Connection attempt failed"
RECEIVED = re.compile(r"Receiving: (\w+)")


def take_part(told: Mapping[str, Any], folder: Path) -> None:
    """Take part in whatever runs at the server, until it is gone for long.

    Was it never there, or does it refuse this client, that is a `RunError`.
    """
    options = ClientOptions.read(told["server"], told["client"])
    with private_home("fedrms-client") as home:
        named = home.folder / "client.json"
        named.touch(mode=0o600)
        named.write_text(json.dumps(told["app"]))
        _keep_joining(home, options, named, folder.absolute() / "supernode.log")


def _keep_joining(home: FlowerHome, options: ClientOptions, named: Path, output: Path) -> None:
    joined = False
    refused_since: float | None = None
    told = ""
    while True:
        if not _wait_for_server(options, joined):
            log.info("The server is gone; this client ends")
            return
        joined_now, gone = _join(home, options, named, output)
        joined = joined or joined_now
        if joined_now or gone:
            refused_since = None
            continue
        refused_since = refused_since or time.monotonic()
        why = _refusal(options, output)
        if time.monotonic() - refused_since > REFUSED_SECONDS:
            raise RunError(why)
        if why != told:
            log.warning("%s\n  Asking again for two minutes", why)
            told = why
        time.sleep(5)


def _wait_for_server(options: ClientOptions, joined: bool) -> bool:
    """Wait for a server; False if one that was there has not come back."""
    started = time.monotonic()
    told = False
    while not server_answers(options.address, options.tls):
        if time.monotonic() - started > options.wait_seconds:
            if joined:
                return False
            raise RunError(
                f"there was no server at {options.address} for {options.wait_seconds:g} s\n"
                "  -> check server.address, or raise client.wait_seconds"
            )
        if not told:
            log.info("Waiting for the server at %s", options.address)
            told = True
        time.sleep(1)
    return True


def _join(home: FlowerHome, options: ClientOptions, named: Path, output: Path) -> tuple[bool, bool]:
    """Run a SuperNode until it ends or its server is gone; say whether it was taken, and which."""
    start = output.stat().st_size if output.exists() else 0
    environment = home.environment(**{VARIABLE: str(named)})
    with Program(_words(options), environment=environment, log=output) as node:
        follower = _Progress(output, start)
        away_since: float | None = None
        probed = time.monotonic()
        usual = min(PROBE_EVERY, max(LOST_EVERY, options.wait_seconds / 5))
        while node.ended is None:
            time.sleep(LOOK_EVERY)
            follower.show()
            wait = LOST_EVERY if away_since or follower.cut_off else usual
            if time.monotonic() - probed < wait:
                continue
            probed = time.monotonic()
            if server_answers(options.address, options.tls):
                away_since, follower.cut_off = None, False
            else:
                if away_since is None:
                    log.info(AWAY, options.address, options.wait_seconds)
                away_since = away_since or probed
                if probed - away_since > options.wait_seconds:
                    break
        follower.show()
        gone = node.ended is None
    return follower.joined, gone


def _words(options: ClientOptions) -> list[str]:
    """Return the command line of the client's program.

    The warm client takes the same arguments as Flower's SuperNode.
    """
    if options.warm:
        words = [sys.executable, "-m", "fedrms.deployment.warm_client"]
    else:
        words = [find_program("flower-supernode"), "--host", "127.0.0.1"]
        words += ["--port", str(free_port())]
    words += ["--superlink", str(options.address)]
    if options.tls is None:
        words.append("--insecure")
    else:
        words += ["--root-certificates", str(options.tls)]
    if options.key is not None:
        words += ["--auth-supernode-private-key", str(options.key)]
    return words


class _Progress:
    """Follow a SuperNode's log, and tell a person what it does."""

    def __init__(self, path: Path, start: int) -> None:
        self._new_lines = NewLines(path, start)
        self._trainings = 0
        self._refused = ""
        self.joined = self.cut_off = False

    def show(self) -> None:
        """Log what is new."""
        for line in (new.decode(errors="replace") for new in self._new_lines()):
            if "SuperNode ID" in line:
                self.joined = True
                log.info("Connected")
            elif (found := RECEIVED.search(line)) and found[1] == "train":
                self._trainings += 1
                log.info("Training (%d since connected)", self._trainings)
            elif found and found[1] == "evaluate":
                log.info("Scoring the model on this client's test data")
            elif CUT_OFF in line:
                self.cut_off = True
            elif REFUSES in line and (why := line.split(REFUSES, 1)[1]) != self._refused:
                self._refused = why
                log.error("%s%s", REFUSES, why)


def _refusal(options: ClientOptions, output: Path) -> str:
    """Say why a client is not taken, and what is to be done by whom."""
    why = _reason(output)
    said = f"The server at {options.address} does not take this client: {why}\n  -> "
    if UNKNOWN_KEY not in why or options.key is None:
        return f"{said}does another client use client.key? One that vanished is let go in a minute"
    return (
        f"{said}its public key must be in the server's folder server.auth. Whoever runs the server "
        f"needs this line, as NAME.pub, and starts it again:\n{_public_line(options.key)}\n"
        f"  It is that of client.key={options.key}, which stays with you"
    )


def _public_line(private: Path) -> str:
    """Return the public key of a private one, as it stands in a ``.pub`` file."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )

    public = load_ssh_private_key(private.read_bytes(), None).public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _reason(output: Path) -> str:
    """Return the line in which Flower's program says why it ended.

    Where a request is refused for its signature, Flower interrupts the program without a word.
    """
    lines = output.read_text(errors="replace").splitlines()[-40:]
    if lines and ENDS in lines[-1]:
        return f"{UNKNOWN_KEY}, or a clock that is wrong"
    told = [line.strip() for line in lines if "[code:" in line or "could not" in line.lower()]
    return told[-1] if told else "see supernode.log"
