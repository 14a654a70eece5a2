"""What the documentation says about results runs as it stands there."""

import re

import pandas as pd
import pytest

import fedrms


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for strategy in ("fedavg", "fedrms"):
        for seed in (0, 1):
            words = [f"strategy={strategy}", f"seed={seed}", "rounds=6", "client.epochs=1"]
            fedrms.run(words, folder=folder / f"{strategy}-{seed}", brief=True)
    return fedrms.load_runs(folder)


def test_a_line_answers_each_of_the_ten_questions(real_runs, repository):
    page = (repository / "docs" / "analysis.md").read_text().split("## Ten questions")[1]
    lines = re.findall(r"```python\n\s*(.*?)\n\s*```", page)
    assert len(lines) == 10
    answers = [eval(line, {"runs": real_runs, "fedrms": fedrms}) for line in lines]
    for line, answer in zip(lines, answers, strict=True):
        assert isinstance(answer, pd.DataFrame | pd.Series)
        nothing_happened = "noise_alarms" in line or "failed" in line
        assert len(answer) > 0 or nothing_happened, line


def test_a_run_says_who_holds_which_classes_and_how_to_run_it_again(real_runs):
    held = real_runs.partition.groupby(["run", "client"], observed=True)["examples"].sum()
    told = real_runs.clients.groupby(["run", "client"], observed=True)["num_examples"].last()
    pd.testing.assert_series_equal(held, told, check_names=False)
    assert real_runs.summary["command"].tolist()[2] == (
        "fedrms strategy=fedrms seed=0 rounds=6 client.epochs=1"
    )


@pytest.mark.long
def test_the_notebook_runs(repository, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra test")
    pytest.importorskip("ipykernel", reason="needs the extra test")
    pytest.importorskip("plotly", reason="needs the extra report")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(repository / "docs" / "notebooks" / "quickstart.ipynb", as_version=4)
    kept = [
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.data
    ]
    assert kept.count("image/png") == 4  # scripts/execute_notebook.py keeps them
    assert kept.count("text/html") == 2
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    shown = [
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {})
    ]
    assert shown.count("application/vnd.plotly.v1+json") + shown.count("image/png") >= 4
    assert (tmp_path / "outputs" / "quickstart" / "report.html").is_file()
