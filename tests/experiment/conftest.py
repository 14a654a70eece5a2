"""The scripts that make the results, as modules."""

from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def load_script(repository: Path) -> Callable[[str], ModuleType]:
    """Load a script without running it; it finds the modules beside it."""

    def load(name: str) -> ModuleType:
        folder = repository / "scripts/reproduce"
        spec = spec_from_loader(name, SourceFileLoader(name, str(folder / name)))
        assert spec is not None
        module = module_from_spec(spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            assert spec.loader is not None
            spec.loader.exec_module(module)
        return module

    return load
