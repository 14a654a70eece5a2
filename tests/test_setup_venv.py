"""scripts/setup-venv installs into this checkout's environment or not at all."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_link_to_the_environment_of_another_checkout_is_refused(tmp_path):
    here, other = tmp_path / "here", tmp_path / "other" / ".venv"
    (here / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup-venv"):
        shutil.copy(ROOT / name, here / name)
    (other / "bin").mkdir(parents=True)
    python = other / "bin" / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/ran\n')
    python.chmod(0o755)
    (here / ".venv").symlink_to(other)
    script = ["sh", "-c", "set -- report; . scripts/setup-venv; echo went on"]

    refused = subprocess.run(script, cwd=here, capture_output=True, text=True)

    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f".venv is a link to {other}" in refused.stderr
    assert "remove the link" in refused.stderr
    assert refused.stdout == ""
    assert not (tmp_path / "ran").exists()
    assert [path.name for path in other.iterdir()] == ["bin"]

    (here / ".venv").unlink()
    other.rename(here / ".venv")
    done = subprocess.run(script, cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pip install" in (tmp_path / "ran").read_text()
