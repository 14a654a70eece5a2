"""An installed wheel works outside of the checkout, configuration tree and all."""

import os
import subprocess
import sys
import zipfile

import pytest


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
