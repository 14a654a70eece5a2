"""What breaks in the field, what is lost by it, and how long it takes: real processes, as a table.

    python scripts/field.py [--pause 60]

A server with TLS and keys and three sites on this machine train without an end, while a site is
killed, paused and restarted, the SuperLink and the server are killed, and strangers ask to be let
in. Seconds are those of this machine, whose load is told; what was lost is read in the tables.
"""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from fedrms.deployment.certificates import Pair, make_authority, make_client_key, make_server_pair
from tests.deployment.real import Command, Site, site_in, wait_for
from tests.deployment.trial import Trial, last_round

NAMES = ("a", "b", "c")
TRIAL = ("seed=3", "clients=3", "rounds=100000", "client.epochs=1", "model=softmax")
LONG = 900.0
UNKNOWN = "key that is not registered"


class Field:
    """The federation, and the rows of the table."""

    def __init__(self, site: Site, pause: float) -> None:
        self.site, self.pause = site, pause
        self.folder = site.folder
        self.trial = Trial(site, NAMES, *TRIAL)
        self.rows: list[tuple[str, str, str]] = []
        self.server = self.trial.server("server.min_clients=2", "checkpoint.every=1")
        self.clients = {name: self.trial.client(name) for name in NAMES}
        self.starts = dict.fromkeys(NAMES, 1)

    def again(self, name: str) -> None:
        """Start a site once more."""
        self.starts[name] += 1
        self.clients[name] = self.trial.client(name, called=f"{name}-{self.starts[name]}")

    def round(self) -> int:
        """Return the last round that the server has told of."""
        return last_round(self.server)

    def after_rounds(self, number: int) -> float:
        """Wait for some more rounds and return the seconds that they took."""
        started, goal = time.monotonic(), self.round() + number
        wait_for(lambda: self.round() >= goal, f"round {goal}\n{self.site.told()}", LONG)
        return time.monotonic() - started

    def tell(self, what: str, seconds: str, lost: str) -> None:
        """Add a row."""
        self.rows.append((what, seconds, lost))
        print(f"{what}: {seconds}; {lost}", flush=True)

    def failures(self, first: int, last: int) -> str:
        """Say in which rounds of some somebody has failed."""
        rows = pd.read_parquet(self.folder / "run" / "clients.parquet")
        rows = rows[rows["round"].between(first, last) & rows["failed"]]
        told = sorted(f"{row.client} in round {row.round}" for row in rows.itertuples())
        return "; ".join(told) if told else "nothing"


def processes(command: Command) -> list[psutil.Process]:
    """Return a command's process and all that it has started."""
    own = psutil.Process(command.process.pid)
    return [own, *own.children(recursive=True)]


def break_a_site(field: Field) -> dict[str, tuple[int, int]]:
    """Kill, restart and pause a site; return the rounds in which each was."""
    seen = {}
    field.after_rounds(5)

    first = field.round()
    died = time.monotonic()
    field.clients["b"].process.kill()
    field.clients["b"].process.wait()
    stalled = field.after_rounds(2)
    field.again("b")
    began = time.monotonic()
    field.clients["b"].until("Training (1", LONG)
    back = time.monotonic()
    field.after_rounds(2)
    seen["killed"] = (first, field.round())
    field.tell(
        "site killed (kill -9) and started again",
        f"the others' next two rounds {stalled:.0f} s; it trains {back - began:.0f} s later",
        f"{back - died:.0f} s of its work",
    )

    first, began = field.round(), time.monotonic()
    status = field.clients["b"].interrupt()
    ended = time.monotonic() - began
    field.again("b")
    began = time.monotonic()
    field.clients["b"].until("Training (1", LONG)
    field.after_rounds(2)
    seen["restarted"] = (first, field.round())
    field.tell(
        "site stopped (SIGTERM) and started again",
        f"ends in {ended:.1f} s (status {status}); trains {time.monotonic() - began:.0f} s later",
        "see the rounds below",
    )

    first = field.round()
    frozen = processes(field.clients["b"])
    for process in frozen:
        process.suspend()
    time.sleep(field.pause)
    trained = field.clients["b"].said.count("Training (")
    began = time.monotonic()
    for process in reversed(frozen):
        process.resume()
    wait_for(
        lambda: (
            field.clients["b"].said.count("Training (") > trained
            or field.clients["b"].process.poll() is not None
        ),
        "the paused site's next training",
        LONG,
    )
    woke = time.monotonic() - began
    field.after_rounds(2)
    seen["paused"] = (first, field.round())
    field.tell(
        f"site paused for {field.pause:.0f} s (SIGSTOP)", f"trains {woke:.0f} s later", "see below"
    )
    return seen


def break_the_server(field: Field) -> dict[str, tuple[int, int]]:
    """Kill the SuperLink, and then the server."""
    seen = {}
    for what in ("SuperLink", "server"):
        first, began = field.round(), time.monotonic()
        if what == "SuperLink":
            field.server.child("flower-superlink").kill()
            status = field.server.wait()
            ended = time.monotonic() - began
            end = f"server ends in {ended:.1f} s (status {status}); "
        else:
            field.server.process.kill()
            field.server.process.wait()
            end = ""
        began = time.monotonic()
        field.server = field.site.start(
            "server",
            f"resume={field.folder / 'run'}",
            f"server.address={field.site.address}",
            name=f"after-{what}",
        )
        field.after_rounds(1)
        back = time.monotonic() - began
        field.after_rounds(5)
        seen[what] = (first, field.round())
        attack = [line for line in field.server.said.splitlines() if "efused" in line]
        field.tell(
            f"{what} killed (kill -9), resumed",
            f"{end}a round is done {back:.0f} s after resume",
            f"goes on after round {first}; the server speaks of refusals {len(attack)} times",
        )
    return seen


def stop(field: Field) -> None:
    """Press Ctrl-C in a round."""
    began = time.monotonic()
    status = field.server.interrupt(signal.SIGINT)
    field.tell("Ctrl-C at the server in a round", f"{time.monotonic() - began:.1f} s", f"{status}")


def stop_while_waiting(site: Site) -> tuple[str, str, str]:
    """Press Ctrl-C while the server waits for its first client."""
    server = site.server(*TRIAL, "server.trial=true", name="waiting")
    server.until("Waiting for clients", LONG)
    began = time.monotonic()
    status = server.interrupt(signal.SIGINT)
    left = site.left_behind()
    return (
        "Ctrl-C at the server while it waits",
        f"{time.monotonic() - began:.1f} s",
        f"status {status}, left behind: {left or 'nothing'}",
    )


def stop_at_the_end(site: Site) -> tuple[str, str, str]:
    """Press Ctrl-C when the last round is over."""
    server = site.server(
        *TRIAL, "rounds=3", "server.trial=true", "server.min_clients=1", name="end"
    )
    client = site.client(*TRIAL, "rounds=3", "client.partition=0", name="last")
    server.until("round 3/3", LONG)
    began = time.monotonic()
    status = server.interrupt(signal.SIGINT)
    seconds = time.monotonic() - began
    client.interrupt()
    rounds = len(pd.read_parquet(site.folder / "end" / "rounds.parquet"))
    left = site.left_behind() or "nothing"
    return (
        "Ctrl-C at the server after the last round",
        f"{seconds:.1f} s",
        f"status {status}, {rounds} of 3 rounds saved, left behind: {left}",
    )


def all_refuse(site: Site) -> tuple[str, str, str]:
    """Let every site have another model."""
    server = site.server(*TRIAL, "server.trial=true", "server.min_clients=2", name="refused")
    clients = [
        site.client(*TRIAL, "model=mlp", f"client.partition={n}", name=f"other-{n}")
        for n in range(2)
    ]
    status = server.wait(LONG)
    time.sleep(2)
    told = [client.said.count("This client refuses") for client in clients]
    for client in clients:
        client.interrupt()
    rounds = last_round(server)
    reason = next((line for line in server.said.splitlines() if "model is not" in line), "none")
    return (
        "every site has another model",
        f"ends after round {rounds} (status {status}): {reason[:120]}",
        f"sites say so on their terminals: {told}",
    )


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as a server's health does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def strangers(field: Field) -> None:
    """Knock with what is not right, at this server and at two whose certificates are not."""
    others = field.folder / "others"
    others.mkdir()
    (others / "ca.crt").write_bytes(make_authority().certificate_pem)
    private, _ = make_client_key()
    (others / "unknown").touch(mode=0o600)
    (others / "unknown").write_bytes(private)
    expired = make_authority()
    with served(make_server_pair(expired, ["127.0.0.1"], days=0), others) as one:
        told_by(field, "expired certificate", f"server.address={one}", trust(expired, others))
    other = make_authority()
    with served(make_server_pair(other, ["fl.example.org"]), others) as two:
        told_by(field, "certificate of another name", f"server.address={two}", trust(other, others))
    told_by(field, "certificate of another authority", f"client.tls={others / 'ca.crt'}")
    told_by(field, UNKNOWN, f"client.key={others / 'unknown'}")


@contextmanager
def served(pair: Pair, folder: Path) -> Iterator[str]:
    """Answer behind a certificate, and yield the address."""
    for name, content in (("crt", pair.certificate_pem), ("key", pair.key_pem)):
        (folder / name).write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "crt", folder / "key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def trust(authority: Pair, folder: Path) -> str:
    """Write an authority's certificate, and return the option by which a site trusts it."""
    path = folder / f"{time.monotonic_ns()}.crt"
    path.write_bytes(authority.certificate_pem)
    return f"client.tls={path}"


def told_by(field: Field, what: str, *further: str) -> None:
    """Start a site as `what`, and tell how long it took to be told why not."""
    name = what.replace(" ", "-")
    client = field.trial.client("a", *further, "client.wait_seconds=30", called=name)
    client.until("none of which leave", LONG)
    began = time.monotonic()
    wait_for(
        lambda: client.process.poll() is not None or "does not take this client" in client.said,
        what,
        LONG,
    )
    took = f"told after {time.monotonic() - began:.0f} s"
    if what == UNKNOWN:  # which may be that of a client that a server forgets in a minute
        client.wait(LONG)
        took += f", ends after {time.monotonic() - began:.0f} s"
    elif client.process.poll() is None:
        client.interrupt()
    said = [line for line in client.said.splitlines() if " not " in line]
    field.tell(what, took, said[-1][-110:] if said else "nothing said")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pause", type=float, default=60.0)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        with site_in(Path(folder) / "field") as site:
            field = Field(site, options.pause)
            seen = break_a_site(field)
            strangers(field)
            seen |= break_the_server(field)
            stop(field)
            for client in field.clients.values():
                client.interrupt()
            rounds = pd.read_parquet(site.folder / "run" / "rounds.parquet")["round"].tolist()
            print(f"rounds 1 to {rounds[-1]}, none missing or twice: ", end="")
            print(rounds == list(range(1, rounds[-1] + 1)))
            for what, (first, last) in seen.items():
                print(f"{what}, rounds {first} to {last}, failed: {field.failures(first, last)}")
            print(f"left behind: {site.left_behind() or 'nothing'}")
        for further in (stop_while_waiting, stop_at_the_end, all_refuse):
            with site_in(Path(folder) / further.__name__) as site:
                field.tell(*further(site))
    print(f"load {os.getloadavg()[0]:.0f}")
    print("\n| what | how long | lost |\n|---|---|---|")
    for row in field.rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
