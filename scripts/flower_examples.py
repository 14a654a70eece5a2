"""Run Flower's example apps with FedAvg and with the one import changed to FedRMS.

    python scripts/flower_examples.py FLOWER DATA [APP ...]

FLOWER is a checkout of https://github.com/adap/flower; DATA holds mnist/ and cifar10/, each with
train.parquet and test.parquet. Nothing of an app changes but ``FedAvg``: its import becomes
``FedRMS as FedAvg``. What apps would download comes from local Parquet files instead: 1,000
pictures of DATA (MNIST for Fashion-MNIST as well), scikit-learn's iris, and a census-like table
that is made up. Apps run by ``flwr run`` on Flower's simulation, as their README says. One line a
run: the app, the strategy, the exit status, how many messages failed, the last metrics that it
printed, and where all that it printed is. The apps' own packages (torchvision, jax, opacus, ...)
must be installed; an app that lacks one is left out, and says which.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.flower.real_flower import SIMULATION, RealFlower  # noqa: E402

APPS = {
    "quickstart-numpy": [],
    "quickstart-pytorch": ["torchvision"],
    "quickstart-sklearn": ["sklearn"],
    "quickstart-jax": ["jax"],
    "quickstart-pytorch-lightning": ["torchvision", "pytorch_lightning"],
    "fl-tabular": ["sklearn"],
    "custom-mods": ["torchvision", "tensorflow", "wandb"],
    "advanced-pytorch": ["torchvision", "wandb"],
    "opacus": ["torchvision", "opacus"],
}
"""Apps with a message strategy, and what they import beside Flower and PyTorch."""

LOCAL_DATA = '''
"""Gives what Flower's examples download from local files; found by Python before all else."""
import os
import sys

_FOLDER = os.environ["FLOWER_EXAMPLES_DATA"]
_NAMES = {
    "uoft-cs/cifar10": "cifar10",
    "ylecun/mnist": "mnist",
    "zalando-datasets/fashion_mnist": "mnist",
    "hitorilabs/iris": "iris",
    "scikit-learn/adult-census-income": "adult",
}


def _local(path, name=None, split=None, **ignored):
    import datasets
    folder = os.path.join(_FOLDER, _NAMES[path])
    import pyarrow.parquet
    found = {}
    for part in os.listdir(folder):
        table = pyarrow.parquet.read_table(os.path.join(folder, part))
        found[part[:-8]] = datasets.Dataset(table, fingerprint=folder + part)
    return found[split] if split else datasets.DatasetDict(found)


class _Finder:
    """Changes one function of ``datasets`` as it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "datasets":
            return None
        sys.meta_path.remove(self)
        import datasets
        datasets.load_dataset = _local
        import datasets.load
        datasets.load.load_dataset = _local
        return datasets.__spec__


sys.meta_path.insert(0, _Finder())
'''


def write_data(source: Path, folder: Path, rows: int = 1000) -> None:
    """Write the Parquet files under the names and columns that the hub's have."""
    for name, image in (("cifar10", "img"), ("mnist", "image")):
        (folder / name).mkdir(parents=True)
        for part in ("train", "test"):
            some = pd.read_parquet(source / name / f"{part}.parquet").head(rows)
            _write_pictures(some.rename(columns={"image": image}), image, folder / name, part)
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True).frame
    iris.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"]
    (folder / "iris").mkdir()
    iris.sample(frac=1, random_state=0).to_parquet(folder / "iris" / "train.parquet", index=False)
    (folder / "adult").mkdir()
    _census(3 * rows).to_parquet(folder / "adult" / "train.parquet", index=False)


def _write_pictures(table: pd.DataFrame, image: str, folder: Path, part: str) -> None:
    import datasets

    features = datasets.Features(
        {image: datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))}
    )
    columns = table[[image, "label"]].to_dict("list")
    pq.write_table(
        datasets.Dataset.from_dict(columns, features).data.table, folder / f"{part}.parquet"
    )


def _census(rows: int) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    words = {
        "workclass": ["Private", "Self-emp", "Gov"],
        "education": ["HS-grad", "Bachelors", "Masters"],
        "marital.status": ["Married", "Never-married"],
        "occupation": ["Sales", "Craft", "Exec"],
        "relationship": ["Husband", "Own-child", "Unmarried"],
        "race": ["A", "B"],
        "sex": ["Female", "Male"],
        "native.country": ["X", "Y"],
    }
    table = pd.DataFrame({name: draw.choice(some, rows) for name, some in words.items()})
    for name, low, high in (("age", 17, 80), ("fnlwgt", 1e4, 1e6), ("education.num", 1, 16)):
        table[name] = draw.integers(low, high, rows)
    for name, high in (("capital.gain", 9999), ("capital.loss", 999), ("hours.per.week", 99)):
        table[name] = draw.integers(0, high, rows)
    rich = table["education.num"] + table["hours.per.week"] / 10 + draw.normal(0, 2, rows) > 14
    return table.assign(income=np.where(rich, ">50K", "<=50K"))


def run(app: Path, strategy: str, flower: RealFlower) -> str:
    """Run a copy of an app with one strategy and return the line that is printed of it."""
    for source in app.rglob("*.py"):
        text = source.read_text()
        if strategy == "FedRMS" and "flwr.serverapp.strategy import FedAvg" in text:
            source.write_text(
                re.sub(
                    r"from flwr\.serverapp\.strategy import FedAvg(, (\w+))?",
                    lambda found: (
                        "from fedrms import FedRMS as FedAvg"
                        + (f"\nfrom flwr.serverapp.strategy import {found[2]}" if found[2] else "")
                    ),
                    text,
                )
            )
    try:
        printed, status = flower.run(app, SIMULATION, *OPTIONS), 0
    except AssertionError as failed:
        printed, status = str(failed), 1
    except subprocess.TimeoutExpired as late:
        printed, status = str(late.stdout or b"", "utf-8", "replace"), 124
    (app / "printed").write_text(printed)
    metrics = re.findall(r"MetricRecord: (\{.*\})", printed)
    failures = sum(map(int, re.findall(r"results and (\d+) failures", printed)))
    told = metrics[-1] if metrics else "no metrics"
    return f"{app.name}\t{strategy}\texit {status}\t{failures} failures\t{told}\t{app}/printed"


OPTIONS = (
    *("-c", "num-server-rounds=2"),
    *("--federation-config", "num-supernodes=4 init-args-num-cpus=2 client-resources-num-cpus=1"),
)


def main() -> None:
    """Run the apps that are named, or all."""
    checkout, source, *names = sys.argv[1:]
    work = Path(tempfile.mkdtemp(prefix="flower-examples-"))
    write_data(Path(source), work / "data")
    (work / "site").mkdir()
    (work / "site" / "sitecustomize.py").write_text(LOCAL_DATA)
    for name in names or APPS:
        lacking = [each for each in APPS[name] if not _there(each)]
        if lacking:
            print(f"{name}\tleft out: {', '.join(lacking)} cannot be imported", flush=True)
            continue
        for strategy in ("FedAvg", "FedRMS"):
            app = work / strategy / name
            shutil.copytree(Path(checkout) / "examples" / name, app)
            home = work / f"home-{strategy}-{name}"
            home.mkdir()
            flower = RealFlower(home, ROOT)
            flower.environment["PYTHONPATH"] = os.pathsep.join([str(work / "site"), str(ROOT)])
            flower.environment |= {
                "FLOWER_EXAMPLES_DATA": str(work / "data"),
                "WANDB_MODE": "offline",
                "HF_HUB_OFFLINE": "1",
            }
            try:
                print(run(app, strategy, flower), flush=True)
            finally:
                flower.stop()


def _there(package: str) -> bool:
    code = f"import {package}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
