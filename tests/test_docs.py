"""What the README and the docs promise: commands and code that run, links that lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    if path.name != "decisions.md"
)
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
RUN = """
import json, subprocess, sys
namespace = {"__name__": "__main__"}
for language, text in json.load(sys.stdin):
    print(text, flush=True)
    if language == "sh":
        subprocess.run(["sh", "-eu", "-c", text], check=True)
    if language == "python":
        exec(compile(text, "page", "exec"), namespace)
"""
"""Blocks of sh and python in their order, python in one namespace."""
LINK = re.compile(r"\]\(((?![a-z]+:|#)[^)\s#]+)")


def blocks(page: str) -> list[tuple[str, str]]:
    return [(found[1], dedent(found[2])) for found in BLOCK.findall((ROOT / page).read_text())]


def follow(page: str, folder: Path) -> None:
    """Run a page's blocks in a folder."""
    run(blocks(page), folder)


def run(written: list[tuple[str, str]], folder: Path) -> None:
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env=environment,
        input=json.dumps(written),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_the_first_steps_and_the_gallery_run_as_they_are_written(tmp_path):
    pytest.importorskip("plotly", reason="needs the extra report")
    follow("docs/tutorial.md", tmp_path)
    assert (tmp_path / "compared" / "report.html").is_file()
    follow("docs/gallery.md", tmp_path)


@pytest.mark.long
def test_the_readmes_own_model_runs_as_it_is_written(tmp_path):
    shutil.copytree(ROOT / "examples" / "hospitals", tmp_path / "examples" / "hospitals")
    follow("README.md", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("page", ["docs/your-data.md", "docs/your-model.md"])
def test_own_data_and_models_run_as_they_are_written(page, tmp_path):
    pytest.importorskip("plotly", reason="needs the extra report")
    follow(page, tmp_path)


@pytest.mark.long
def test_what_is_asked_of_results_runs_as_it_is_written(tmp_path):
    pytest.importorskip("plotly", reason="needs the extra report")
    sweep = "strategy=fedavg,fedrms,oracle seed=0,1 rounds=3 client.epochs=1"
    run([("sh", f"fedrms -m {sweep} hydra.sweep.dir=outputs/tried")], tmp_path)
    for page in ("docs/simulate.md", "docs/analysis.md", "docs/report.md", "outputs/README.md"):
        follow(page, tmp_path)


CLIENT = """
import numpy as np
import torch
from flwr.app import Context, RecordDict

context = Context(0, 0, {"partition-id": 0}, RecordDict(), {})
device, metrics = torch.device("cpu"), {}
scores, labels, losses = np.zeros((4, 3)), np.array([0, 1, 2, 0]), np.ones(4)
train_loader = [(torch.zeros(4, 2), torch.tensor(labels))]
model = torch.nn.Linear(2, 3)
"""


def test_lines_for_a_flower_app_run_in_one(tmp_path):
    """Lines for a secure sum have a test under ``flwr run``, a warm client's with a server."""
    elsewhere = re.compile("SecureSum|secaggplus|run_warm_client")
    lines = [block for block in blocks("docs/flower-apps.md") if not elsewhere.search(block[1])]
    assert len([language for language, _ in lines if language == "python"]) == 3
    run([("python", CLIENT), *lines, ("python", "assert len(metrics) > 3, metrics")], tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_docs_is_python(page):
    for language, text in blocks(page):
        if language == "python":
            compile(text, page, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_to_files(page):
    for link in LINK.findall((ROOT / page).read_text()):
        brought = (
            {"outputs.md", "changelog.md", "contributing.md"} if page == "docs/index.md" else ()
        )
        assert link in brought or (ROOT / page).parent.joinpath(link).exists(), link


def test_the_readme_is_short_and_has_what_fills_its_table():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < 900
    scripts = (ROOT / "scripts" / "headline.py").read_text()
    for marker in re.findall(r"<!-- .*?headline.*? -->", text):
        assert marker in scripts


DIFFERENCE = re.compile(r"[+-][0-9.]+ \[[+-][0-9.]+, [+-][0-9.]+\]")


def test_the_page_of_results_is_short_and_its_numbers_are_those_of_the_tables_it_links():
    folder = ROOT / "docs" / "results"
    text = (folder / "README.md").read_text()
    assert len(text.split()) < 1200
    found = 0
    for line in [line for line in text.splitlines() if line.startswith("| ")]:
        links = [link for link in LINK.findall(line) if link.endswith(".md")]
        tables = "".join((folder / link).read_text() for link in links)
        for number in DIFFERENCE.findall(line):
            assert number in tables, line
            found += 1
    assert found > 20


def titles(pages: object) -> list[str]:
    """Return the titles of a part of the navigation."""
    if not isinstance(pages, list):
        return []
    named = [entry for entry in pages if isinstance(entry, dict)]
    return [title for entry in named for title in entry]


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement of the theme's
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert "strategy=fedrms" in (tmp_path / "site" / "reference" / "options.html").read_text()
    reference = (tmp_path / "site" / "reference" / "python.html").read_text()
    assert ":class:" not in reference
    for name in ("fedrms.server.strategy.FedRMS", "fedrms.results.plots.curves.learning_curves"):
        assert f'id="{name}"' in reference
    notebook = (tmp_path / "site" / "notebooks" / "quickstart.html").read_text()
    assert 'src="quickstart-1.png"' in notebook
    assert '<div class="output">' in notebook
    assert (tmp_path / "site" / "notebooks" / "quickstart-1.png").read_bytes()[1:4] == b"PNG"
    home = (tmp_path / "site" / "index.html").read_text()
    told = yaml.safe_load((ROOT / "mkdocs.yml").read_text().split("nav:\n", 1)[1])
    for title in [title for part in told for pages in part.values() for title in titles(pages)]:
        assert re.search(rf">\s*{re.escape(title)}\s*<", home), title
