"""No figure of ours offers to upload itself."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from fedrms.results.plots.picture import Picture

pio = pytest.importorskip("plotly.io")


@pytest.mark.parametrize("renderer", ["plotly_mimetype", "notebook_connected", "vscode+notebook"])
def test_a_figure_in_a_notebook_has_no_button_that_uploads(renderer, monkeypatch):
    monkeypatch.setattr(pio.renderers, "default", renderer)
    bundle = Picture("empty", "Nothing", "nothing", [], pd.DataFrame())._repr_mimebundle_()
    told = [json.dumps(value) for key, value in bundle.items() if key != "text/plain"]
    assert told
    for text in told:
        assert '"showSendToCloud": false' in text.replace("\\", "")
    figure = pio.renderers[renderer.split("+")[0]]
    assert "showSendToCloud" not in (figure.config or {})


def test_neither_has_one_in_the_report(repository):
    page = (repository / "fedrms" / "results" / "report" / "page.js").read_text()
    assert "Plotly.newPlot" in page
    assert "showSendToCloud: false" in page
