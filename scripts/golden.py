"""Record what small runs give, or compare two checkouts to the bit.

    python scripts/golden.py --record "why the numbers change" [RUN ..]
    python scripts/golden.py --against FOLDER_OF_A_CHECKOUT [RUN ..]

The first writes ``tests/golden/golden.json``, which the tests compare with to rounding, for
processors differ in it. The second makes the runs with the code of both checkouts on this machine
and says which weights or columns are not the same to the bit; it ends with 1 if any is not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.golden.fingerprint import CLOCKS, TABLES, differences, fingerprint  # noqa: E402
from tests.golden.plan import runs  # noqa: E402

RECORD = ROOT / "tests/golden/golden.json"


def made(checkout: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Make runs with a checkout's code, and return the names of those that it can make."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    plan = [sys.executable, str(ROOT / "tests/golden/plan.py"), str(folder), *names]
    subprocess.run(plan, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return [name for name in runs(folder) if (folder / name / "model.safetensors").is_file()]


def record(reason: str, names: Sequence[str]) -> int:
    """Write what the runs give, and why it is not what it was."""
    kept = json.loads(RECORD.read_text()) if RECORD.is_file() else {"reasons": [], "runs": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = {name: fingerprint(folder / name) for name in made(ROOT, folder, names)}
        changed = [
            name
            for name, told in found.items()
            if name not in kept["runs"] or list(differences(kept["runs"][name], told))
        ]
        order = list(runs(folder))
    gone = [name for name in kept["runs"] if name not in order]
    if not changed and not gone:
        print("nothing has changed")
        return 0
    told = kept["runs"] | {name: found[name] for name in changed}  # rounding is no reason
    line = f"{date.today()}: {reason} ({len(changed)} changed, {len(gone)} gone)"
    _write([*kept["reasons"], line], {name: told[name] for name in order if name in told})
    print(line, *changed, *gone, sep="\n  ")
    return 0


def _write(reasons: Sequence[str], told: dict[str, dict[str, object]]) -> None:
    lines = ["{", f' "reasons": {json.dumps(reasons, indent=1)},', ' "runs": {']
    for name, parts in told.items():
        inner = ",\n".join(f"   {json.dumps(part)}: {json.dumps(parts[part])}" for part in parts)
        lines.append(f"  {json.dumps(name)}: {{\n{inner}\n  }},")
    lines[-1] = lines[-1].removesuffix(",")
    RECORD.write_text("\n".join([*lines, " }", "}"]) + "\n")


def compare(checkout: Path, names: Sequence[str]) -> int:
    """Say what differs between this code and another checkout's, to the bit."""
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = Path(temporary) / "ours", Path(temporary) / "theirs"
        ours.mkdir()
        theirs.mkdir()
        mine, other = made(ROOT, ours, names), made(checkout.resolve(), theirs, names)
        problems = [
            f"{name}: {line}" for name in mine for line in _unlike(ours / name, theirs / name)
        ]
    print(*problems, sep="\n")
    print(f"{len(mine)} runs, {len(problems)} differences")
    return int(bool(problems) or mine != other)


def _unlike(ours: Path, theirs: Path) -> Iterator[str]:
    mine, other = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    for name in mine.keys() | other.keys():
        if name not in mine or name not in other or mine[name].tobytes() != other[name].tobytes():
            yield f"weights {name}"
    for part in TABLES:
        first, second = (pd.read_parquet(folder / f"{part}.parquet") for folder in (ours, theirs))
        for name in dict.fromkeys([*first.columns, *second.columns]):
            if name in CLOCKS:
                continue
            if name not in first or name not in second or not first[name].equals(second[name]):
                yield f"{part} {name}{_farthest(first.get(name), second.get(name))}"


def _farthest(mine: pd.Series | None, other: pd.Series | None) -> str:
    if mine is None or other is None:
        return f" is only {'there' if mine is None else 'here'}"
    if len(mine) != len(other) or not (mine.dtype.kind == other.dtype.kind == "f"):
        return ""
    return f", by up to {np.nanmax(np.abs(mine - other)):.3g}"


def main() -> int:
    """Do what the options say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", metavar="REASON")
    what.add_argument("--against", metavar="CHECKOUT", type=Path)
    parser.add_argument("names", nargs="*", metavar="RUN")
    options = parser.parse_args()
    if options.against is not None:
        return compare(options.against, options.names)
    return record(options.record, options.names)


if __name__ == "__main__":
    sys.exit(main())
