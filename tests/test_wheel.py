"""An installed wheel works outside of the checkout, configuration tree and all."""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile

import pytest


def package_readme(repository):
    path = repository / "scripts" / "package_readme.py"
    spec = importlib.util.spec_from_file_location("package_readme", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def installed(tmp_path_factory, repository):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*build, repository], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_carries_the_tree_the_types_and_the_licence(installed):
    assert (installed / "fedrms" / "conf" / "config.yaml").is_file()
    assert (installed / "fedrms" / "py.typed").is_file()
    assert (installed / "fedrms" / "results" / "report" / "page.html").is_file()
    assert list(installed.glob("*.dist-info/licenses/LICENSE"))


def test_a_package_index_shows_a_readme_without_dead_links(installed, repository):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    told = metadata.read_text()
    assert "Description-Content-Type: text/markdown" in told
    assert "FedRMS is more accurate" not in told  # the picture, which is in a checkout alone
    assert "Three doors" in told
    assert not re.findall(r"\]\((?!https?:)[^)]*\)", told)
    readme = (repository / "README.md").read_text()
    there = package_readme(repository).as_on_an_index(readme, "https://example.org/fedrms")
    links = re.findall(r"\]\(([^)]+)\)", readme)
    assert len(links) > 10
    for link in links:
        if not link.startswith("https:"):
            assert (repository / link.split("#")[0]).exists()
            assert f"](https://example.org/fedrms/blob/main/{link})" in there
    assert 'srcset="https://example.org/fedrms/raw/main/docs/images/weights-dark.svg"' in there
    assert 'src="https://example.org/fedrms/raw/main/docs/images/weights-light.svg"' in there


@pytest.mark.long
def test_a_run_from_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fedrms.cli", "rounds=1", "client.epochs=1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code = "import fedrms, fedrms.conf_folder as c; print(fedrms.__file__, c.conf_folder())"
    where = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.count(str(installed)) == 2
    assert list((tmp_path / "outputs").rglob("summary.json"))
