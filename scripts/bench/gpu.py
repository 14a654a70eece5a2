"""Clients per second against the size of the cohort, until the device has no more to give.

``python scripts/bench/gpu.py`` doubles the cohort from 8 until clients per second no longer
grow, for softmax regression, the perceptron and the CNN, on random data made here. The share of
peak counts 6 operations a parameter and example (dense models alone) against the rate of a
large matrix product in the same precision, measured here, or ``--peak`` in TFLOP/s.
``--device cpu --quick`` tries the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
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
COLUMNS = {
    "model": "{}",
    "device": "{}",
    "precision": "{}",
    "clients": "{:.0f}",
    "seconds": "{:.4f}",
    "clients_per_second": "{:.4g}",
    "gflops": "{:.4g}",
    "of_peak": "{:.1%}",
    "memory_mb": "{:.0f}",
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
    for model in options.model or (DENSE if options.quick else ("softmax", "mlp", "cnn")):
        best, still, clients = 0.0, 0, options.first
        while clients <= options.most and still < 2:
            try:
                row = measure(model, clients, options, peak)
            except torch.OutOfMemoryError:
                print(f"{model}: {clients} clients do not fit in memory")
                break
            rows.append(row)
            print(markdown([row], COLUMNS).splitlines()[-1], flush=True)
            if options.out:
                write_csv(options.out, rows)
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


def random_workload(model: str, clients: int) -> workloads.Workload:
    """Return clients of equal size with random examples; nobody looks at what is learned."""
    rng = np.random.default_rng(0)
    total = clients * EXAMPLES
    spec = workloads.Spec(model, clients, BATCH, 0.01, EXAMPLES, WARM + ROUNDS)
    x = rng.standard_normal((total, *SHAPES[model]), dtype=np.float32)
    y = rng.integers(workloads.CLASSES, size=total)
    initial = {n: v.numpy() for n, v in workloads.make_model(model).state_dict().items()}
    offsets = np.arange(clients + 1) * EXAMPLES
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
