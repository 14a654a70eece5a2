"""What a GPU gives: the processor's numbers, clients per second, a task of another project.

``python scripts/bench/gpu.py`` trains each model for two rounds on the device and on the
processor, and says how far apart they end as a share of the way; runs the tests marked ``cuda``;
times pfl-research's CIFAR-10 task in its sizes (1,000 users of 50 images, 50 a round, batches of
10, 1,500 rounds) with our CNN on random images of MNIST's size; and doubles the cohort from 8
until clients per second no longer grow, for softmax regression, the perceptron and the CNN, on
random data made here. The share of peak counts 6 operations a parameter and example (dense models
alone) against the rate of a large matrix product in the same precision, measured here, or
``--peak`` in TFLOP/s. All of it goes to one CSV, written after every row.
``--device cpu --quick`` tries the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import workloads
from assembly import assemble
from table import markdown, write_csv

EXAMPLES, BATCH = 100, 20
SHAPES = {"softmax": (60,), "mlp": (1, 28, 28), "cnn": (1, 28, 28), "resnet8": (3, 32, 32)}
DENSE = ("softmax", "mlp")
GROWTH = 1.05
"""A device is saturated when a doubled cohort brings less than this factor, twice in a row."""
WARM, ROUNDS = 4, 5
TASK = {"clients": 1000, "cohort": 50, "examples": 50, "batch": 10, "rounds": 1500}
"""pfl-research's CIFAR-10 task (arXiv:2404.06430); the aim is 20 s for its rounds."""
ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "what": "{}",
    "model": "{}",
    "device": "{}",
    "precision": "{}",
    "clients": "{:.0f}",
    "seconds": "{:.4f}",
    "clients_per_second": "{:.4g}",
    "gflops": "{:.4g}",
    "of_peak": "{:.1%}",
    "memory_mb": "{:.0f}",
    "apart": "{:.1e}",
    "all_rounds": "{:.1f}",
    "said": "{}",
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", action="append", choices=SHAPES)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="softmax and mlp, up to 64 clients")
    parser.add_argument("--first", type=int, default=8, help="clients in the first cohort")
    parser.add_argument("--most", type=int, default=65536, help="and at most in the last")
    parser.add_argument("--limit", type=float, default=20.0, help="longest round, in seconds")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, instead of measured")
    parser.add_argument("--out", type=Path, help="write the table as CSV")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device")
    if options.quick:
        options.most = 64
    peak = options.peak * 1e12 if options.peak else product_rate(options.device, options.precision)
    print(f"peak: {peak / 1e12:.3g} TFLOP/s in {options.precision}")
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(markdown([row], COLUMNS).splitlines()[-1], flush=True)
        if options.out:
            write_csv(options.out, rows)

    for model in options.model or (DENSE if options.quick else ("softmax", "mlp", "cnn")):
        add(equality(model, options))
    add(cuda_tests())
    add(task(options))
    for model in options.model or (DENSE if options.quick else ("softmax", "mlp", "cnn")):
        best, still, clients = 0.0, 0, options.first
        while clients <= options.most and still < 2:
            try:
                row = measure(model, clients, options, peak)
            except torch.OutOfMemoryError:
                print(f"{model}: {clients} clients do not fit in memory")
                break
            add(row)
            still = 0 if row["clients_per_second"] > GROWTH * best else still + 1
            best = max(best, row["clients_per_second"])
            if row["seconds"] > options.limit:
                break
            clients *= 2
    print(f"\n{markdown(rows, COLUMNS)}")


def measure(model: str, clients: int, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """Time rounds of one cohort."""
    precision = {} if options.precision == "float32" else {"precision": options.precision}
    on_gpu = options.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = assemble(random_workload(model, clients), device=options.device, **precision)
    seconds: list[float] = []
    began = 0.0

    def between_rounds(server_round: int, arrays: Any) -> None:
        nonlocal began
        if on_gpu:
            torch.cuda.synchronize()
        if server_round > WARM:
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()

    start(WARM + ROUNDS, between_rounds)
    middle = statistics.median(seconds)
    parameters = sum(p.numel() for p in workloads.make_model(model).parameters())
    rate = 6 * parameters * EXAMPLES * clients / middle if model in DENSE else float("nan")
    return {
        "what": "clients per second",
        "model": model,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "precision": options.precision,
        "clients": clients,
        "seconds": middle,
        "clients_per_second": clients / middle,
        "gflops": rate / 1e9,
        "of_peak": rate / peak,
        "memory_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else float("nan"),
    }


def equality(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train two rounds on the device and on the processor, and compare the models."""
    work = random_workload(model, 8)
    ends = []
    for device in (options.device, "cpu"):
        final: list[np.ndarray] = []

        def keep(server_round: int, arrays: Any, final: list[np.ndarray] = final) -> None:
            final[:] = [array.numpy().ravel() for array in arrays.values()]

        assemble(work, device=device)(2, keep)
        ends.append(np.concatenate(final).astype(np.float64))
    moved = ends[1] - np.concatenate([value.ravel() for value in work.initial.values()])
    apart = float(np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(moved))
    return {"what": "equality", "model": model, "device": options.device, "apart": apart}


def cuda_tests() -> dict[str, Any]:
    """Run the tests marked ``cuda``, and say what pytest said last."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests/engines"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    lines = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
    counts = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
    return {"what": "tests marked cuda", "said": (counts or lines)[-1].strip("= ")}


def task(options: argparse.Namespace) -> dict[str, Any]:
    """Time rounds of pfl-research's CIFAR-10 task; the first ones are not counted."""
    rounds = 3 if options.quick else TASK["rounds"]
    work = random_workload("cnn", TASK["clients"], TASK["examples"], TASK["batch"])
    start = assemble(work, fraction=TASK["cohort"] / TASK["clients"], device=options.device)
    ends: list[float] = []

    def ended(server_round: int, arrays: Any) -> None:
        if options.device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    start(rounds, ended)
    seconds = statistics.median(np.diff(ends))
    return {
        "what": "CIFAR-10 task",
        "model": "cnn",
        "device": options.device,
        "precision": "float32",
        "clients": TASK["cohort"],
        "seconds": seconds,
        "clients_per_second": TASK["cohort"] / seconds,
        "all_rounds": seconds * TASK["rounds"] if options.quick else ends[-1] - ends[0],
    }


def random_workload(
    model: str, clients: int, examples: int = EXAMPLES, batch: int = BATCH
) -> workloads.Workload:
    """Return clients of equal size with random examples; nobody looks at what is learned."""
    rng = np.random.default_rng(0)
    total = clients * examples
    spec = workloads.Spec(model, clients, batch, 0.01, examples, WARM + ROUNDS)
    x = rng.standard_normal((total, *SHAPES[model]), dtype=np.float32)
    y = rng.integers(workloads.CLASSES, size=total)
    initial = {n: v.numpy() for n, v in workloads.make_model(model).state_dict().items()}
    offsets = np.arange(clients + 1) * examples
    return workloads.Workload("random", spec, x, y, offsets, x[:10], y[:10], initial)


def product_rate(device: str, precision: str) -> float:
    """Return the operations a second of a large matrix product."""
    size = 8192 if device == "cuda" else 1024
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    square = torch.randn(size, size, device=device, dtype=dtype)
    fastest = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        square @ square
        if device == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * size**3 / fastest


if __name__ == "__main__":
    main()
