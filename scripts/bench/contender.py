"""One engine as a subprocess on cores of its own: started, told to go, asked for its result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from roster import HERE, Engine

MARK = "FEDRMS_BENCH_RUN"
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "JAX_PLATFORMS": "cpu",
}
ONE_CORE_OF_XLA = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class EngineError(Exception):
    """The engine ended before its time; the message is the last line that it wrote."""


class Contender:
    """A running engine.

    Parameters
    ----------
    engine : Engine
        Which.
    folder : Path
        Of the peers' environments.
    workload : Path
        The file.
    rounds : int
        How many rounds it will be asked for.
    cores : tuple of int
        The cores that it and its children may use; it is told to use as many threads.
    save : Path, optional
        Where the final model goes.
    extra : tuple of str
        Further arguments for the runner.
    limit : float
        Seconds after which it is ended.
    """

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        workload: Path,
        rounds: int,
        cores: tuple[int, ...],
        *,
        save: Path | None = None,
        extra: tuple[str, ...] = (),
        limit: float = 3600.0,
    ) -> None:
        self._many = engine.own_block
        self._mark = uuid.uuid4().hex
        self._home = tempfile.mkdtemp(prefix="fedrms-bench-")
        self._errors = Path(self._home, "stderr")
        python = str(folder / engine.environment / "bin/python") if engine.environment else ""
        environment = {
            **os.environ,
            **QUIET,
            **dict.fromkeys(THREADS, str(len(cores))),
            "PYTHONPATH": os.pathsep.join(
                [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "PYTHONSAFEPATH": "1",
            "FLWR_HOME": self._home,
            MARK: self._mark,
        }
        if len(cores) == 1:
            environment["XLA_FLAGS"] = ONE_CORE_OF_XLA
        command = [python or sys.executable, str(HERE / "runners" / f"{engine.runner}.py")]
        command += [str(workload), str(rounds), *engine.arguments, *extra]
        if save:
            command += ["--save", str(save)]
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors.open("wb"),
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self._timer = threading.Timer(limit, self.stop)
        self._timer.daemon = True
        self._timer.start()
        self.rounds = 0
        self.first = self.first_cpu = 0.0
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.peak_mb = 0.0
        self.accuracy = float("nan")

    def round(self, *, counted: bool = True) -> None:
        """Run one round; the first is timed from the start of the command."""
        assert self._process.stdin is not None
        before = self._ticks() if self._many and self.first else 0.0
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineError(self._last_words()) from None
        line = self._read()
        self.rounds += 1
        if self.first and counted:
            self.seconds.append(line["seconds"])
            self.cpu.append(self._ticks() - before if self._many else line["cpu"])
        elif not self.first:
            self.first = time.perf_counter() - self._began
            self.first_cpu = self._ticks()
        self.peak_mb = max(self.peak_mb, self._memory())

    def finish(self) -> None:
        """Take the result and end the process."""
        line = self._read()
        self.accuracy = line["accuracy"]
        self.peak_mb = max(self.peak_mb, line["peak_mb"])
        self._process.wait()
        self.stop()

    def stop(self) -> None:
        """End what is left of the process and its children."""
        self._timer.cancel()
        for pid in self._family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(self._last_words())
        return dict(json.loads(line))

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "ended without a word"

    def _family(self) -> list[int]:
        """Return the process and its children, known by a mark in their environment."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if mark in (folder / "environ").read_bytes():
                        found.append(int(folder.name))
                except OSError:
                    continue
        return found

    def _ticks(self) -> float:
        """Return the processor time of the whole family, seconds."""
        total = 0
        for pid in self._family():
            try:
                text = Path(f"/proc/{pid}/stat").read_text()
            except OSError:
                continue
            total += sum(map(int, text.rpartition(")")[2].split()[11:13]))
        return total / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> float:
        """Return the proportional set size of the whole family, MB."""
        total = 0
        for pid in self._family():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(row.split()[1]) for row in text.splitlines() if row[:4] == "Pss:")
        return total / 1024
