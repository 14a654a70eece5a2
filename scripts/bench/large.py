"""Time rounds of ten clients with large perceptrons beside the loop that everybody writes.

``python scripts/bench/large.py --out docs/benchmarks/large.csv`` runs fedrms with its default law
and with ``uniform`` (FedAvg), and a plain PyTorch loop of the same steps that averages as it goes,
each a process with one thread, a round at a time in turns. Ratios are of medians of processor
time; peak memory is what a process took beside what it held before its first round. ``own_mb``,
at the end of the last round, leaves out what lies in files, which the system can take back.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import torch
from table import markdown, write_csv
from torch import nn

from fedrms.engines.memory import parse_memory

HIDDEN = {
    **{
        "1e5": (32,),
        "1.6e6": (512,),
        "1e7": (2000, 2000),
        "2.4e7": (4000, 2850),
        "1e8": (9000, 8000),
    },
    **{"1e5 of 1e7": (2000, 2000, 48), "1e5 of 1e8": (9000, 8000, 12)},
}
FROZEN = {"1e5 of 1e7": 2, "1e5 of 1e8": 2}
"""How many of the first layers nobody trains."""
INPUTS, CLASSES, CLIENTS, BATCH, LR = 3072, 10, 10, 32, 0.05
ENGINES = ("plain loop", "fedrms excess", "fedrms uniform")
MEGABYTE = 1 << 20


def model(size: str) -> nn.Sequential:
    """Return the perceptron of a size."""
    widths = [INPUTS, *HIDDEN[size], CLASSES]
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    for layer in layers[: FROZEN.get(size, 0)]:
        layer.requires_grad_(False)
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


def trained(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that are trained, which alone need to be averaged."""
    return {name: value.detach() for name, value in net.named_parameters() if value.requires_grad}


def plain_rounds(size: str, x: torch.Tensor, y: torch.Tensor) -> Iterator[None]:
    """Yield after every round of a plain loop; each client has the same number of rows."""
    net, loss = model(size), nn.CrossEntropyLoss()
    total = {name: value.clone() for name, value in trained(net).items()}
    while True:
        received, total = total, {name: torch.zeros_like(v) for name, v in total.items()}
        for mine_x, mine_y in zip(x.chunk(CLIENTS), y.chunk(CLIENTS), strict=True):
            net.load_state_dict(received, strict=False)
            own = [value for value in net.parameters() if value.requires_grad]
            optimizer = torch.optim.SGD(own, lr=LR)
            for rows in torch.randperm(len(mine_x)).split(BATCH):
                optimizer.zero_grad()
                loss(net(mine_x[rows]), mine_y[rows]).backward()
                optimizer.step()
            for name, value in trained(net).items():
                total[name].add_(value, alpha=1 / CLIENTS)
        yield


def largest() -> float:
    """Return this process's peak memory in MB; ``ru_maxrss`` would begin with its parent's."""
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert told is not None
    return int(told[1]) / 1024


def serve(options: argparse.Namespace) -> None:
    """Run a round for every line that comes in, and answer with its seconds and the peak."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(CLIENTS * options.steps * BATCH, INPUTS)
    y = torch.randint(0, CLASSES, (len(x),))
    began, held, held_own = 0.0, 0.0, 0.0

    def own() -> float:
        memory = psutil.Process().memory_info()
        return (memory.rss - memory.shared) / MEGABYTE

    def wait() -> None:
        nonlocal began
        if not sys.stdin.readline():
            sys.exit()
        began = time.process_time()

    def done() -> None:
        seconds = time.process_time() - began
        peak = largest() - held
        print(seconds, peak, own() - held_own, flush=True)
        wait()

    if options.engine == "plain loop":
        rounds = plain_rounds(options.size, x, y)
        held, held_own = psutil.Process().memory_info().rss / MEGABYTE, own()
        wait()
        for _ in rounds:
            done()
    import assembly
    import workloads

    workloads.make_model = lambda _: model(options.size)
    workload = SimpleNamespace(
        spec=workloads.Spec(options.size, CLIENTS, BATCH, LR, len(x) // CLIENTS, 0),
        x=x.numpy(),
        y=y.numpy(),
        offsets=np.arange(CLIENTS + 1) * (len(x) // CLIENTS),
        test_x=x[:BATCH].numpy(),
        test_y=y[:BATCH].numpy(),
        initial={name: value.numpy() for name, value in trained(model(options.size)).items()},
    )
    law, memory = options.engine.split()[1], parse_memory(options.memory)
    start = assembly.assemble(workload, law=law, threads=1, memory=memory)
    held, held_own = psutil.Process().memory_info().rss / MEGABYTE, own()
    start(1 << 20, lambda server_round, _: done() if server_round else wait())


def measure(size: str, steps: int, rounds: int, memory: str) -> list[dict[str, object]]:
    """Return a row for each engine."""
    told: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
    command = [sys.executable, __file__, "--size", size, "--steps", str(steps)]
    command += ["--memory", memory, "--engine"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = {engine: subprocess.Popen([*command, engine], **pipes) for engine in ENGINES}
    for turn in range(rounds + 2):  # the first two find nothing traced and no memory taken
        for place in range(len(ENGINES)):
            engine = ENGINES[(turn + place) % len(ENGINES)]
            running[engine].stdin.write("\n")
            running[engine].stdin.flush()
            told[engine].append([float(part) for part in running[engine].stdout.readline().split()])
    for process in running.values():
        process.stdin.close()
        process.wait()
    parameters = sum(value.numel() for value in trained(model(size)).values())
    stack = 4 * CLIENTS * parameters / MEGABYTE
    seconds = {engine: [own[0] for own in told[engine][2:]] for engine in ENGINES}
    plain = statistics.median(seconds["plain loop"])
    return [
        {
            "size": size,
            "parameters": parameters,
            "steps": steps,
            "engine": engine,
            "rounds": rounds,
            "memory": memory,
            "seconds": statistics.median(own),
            "iqr": np.subtract(*np.quantile(own, [0.75, 0.25])),
            "times_the_loop": plain / statistics.median(own),
            "peak_mb": told[engine][-1][1],
            "own_mb": told[engine][-1][2],
            "stack_mb": stack,
        }
        for engine, own in seconds.items()
    ]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=list(HIDDEN), default=["1e5", "1.6e6", "1e7"])
    parser.add_argument("--step-counts", nargs="+", type=int, default=[2, 15])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", default="auto", help="fedrms' engine.memory, such as 2GiB")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--size", choices=list(HIDDEN), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        return serve(options)
    rows: list[dict[str, object]] = []
    for size in options.sizes:
        for steps in options.step_counts:
            rows += measure(size, steps, options.rounds, options.memory)
            if options.out:
                write_csv(options.out, rows)
    forms = {
        "size": "{}",
        "parameters": "{:,.0f}",
        "steps": "{:.0f}",
        "engine": "{}",
        "seconds": "{:.4f}",
    }
    forms |= {"iqr": "{:.4f}", "times_the_loop": "{:.2f}x"}
    print(markdown(rows, forms | dict.fromkeys(("peak_mb", "own_mb", "stack_mb"), "{:.0f}")))


if __name__ == "__main__":
    main()
