"""One comparison on disk for all tests of the report."""

import pytest

import fedrms
from tests.report.made_runs import write_comparison


@pytest.fixture(scope="session")
def comparison_folder(tmp_path_factory):
    return write_comparison(tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="session")
def runs(comparison_folder):
    return fedrms.load_runs(comparison_folder)
