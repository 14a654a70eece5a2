"""The digest of the code covers what decides a run's numbers, and leaves out what reads them."""

import ast
from pathlib import Path

import fedrms
from fedrms.reproduce.code_version import WRITERS, code_version

PACKAGE = Path(fedrms.__file__).parent
RESULTS = PACKAGE / "results"


def imports(path):
    """Modules of fedrms.results that a file imports, those of its package looked through."""
    exported = {
        alias.name: node.module.rsplit(".", 1)[1]
        for node in ast.parse((RESULTS / "__init__.py").read_text()).body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fedrms.results.")
        for alias in node.names
    }
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "fedrms.results":
            found |= {exported[alias.name] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("fedrms.results."):
            found.add(node.module.split(".")[2])
    return found


def test_every_module_that_a_run_takes_from_results_is_counted():
    reached, open_ones = set(), set()
    for path in (PACKAGE / "experiment").glob("*.py"):
        if path.name not in ("simulate.py", "left_out.py"):  # they read what runs have written
            open_ones |= imports(path)
    while open_ones:
        name = open_ones.pop()
        reached.add(name)
        open_ones |= imports(RESULTS / f"{name}.py") - reached
    assert {f"results/{name}.py" for name in reached} == set(WRITERS)


def test_the_digest_is_a_dozen_hexadecimal_digits():
    assert len(code_version()) == 12
    int(code_version(), 16)


def test_compiled_code_is_counted(tmp_path, monkeypatch):
    package = tmp_path / "fedrms"
    (package / "native").mkdir(parents=True)
    (package / "reproduce").mkdir()
    source = package / "native" / "step.c"
    monkeypatch.setattr(
        "fedrms.reproduce.code_version.__file__", str(package / "reproduce" / "code_version.py")
    )
    digests = []
    for text in ("int a;", "int b;"):
        source.write_text(text)
        digests.append(code_version.__wrapped__())
    assert digests[0] != digests[1]
