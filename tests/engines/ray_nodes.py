"""Ray nodes for tests: started with the ``ray`` command, stopped by their own process ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Node:
    """A Ray node of its own process group, in the foreground so that its end is ours."""

    def __init__(self, folder: str, repository: Path, *options: str) -> None:
        self._log = Path(folder) / f"{time.time_ns()}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block"),
                    *("--num-cpus=1", "--disable-usage-stats"),
                    *("--object-store-memory=100000000", *options),
                ],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(repository)},
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(600):
            if "Ray runtime started" in self._log.read_text():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(15)
