"""Real processes, shared by as many tests as can."""

from __future__ import annotations

import pytest

from tests.deployment.real import site_in


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield site
