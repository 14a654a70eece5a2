import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from fedrms.results.arrow_arrays import booleans, numbers, texts, values_of

TEXTS = ["a", None, "", "ü", "longer"]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64(), pa.int32()])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_numbers_are_arrows(kind: pa.DataType, count: int) -> None:
    values = np.arange(2 * count)[::2]  # not in one piece
    made = numbers(values, kind)
    made.validate(full=True)
    assert made.equals(pa.array(values.astype(kind.to_pandas_dtype()), kind))
    values[:] = -1  # they are copies
    assert values_of(made).tolist() == list(range(0, 2 * count, 2))


@pytest.mark.parametrize("count", [0, 1, 8, 19])
def test_yes_and_no_are_arrows(count: int) -> None:
    values = np.random.default_rng(0).random(count) < 0.5
    made = booleans(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.bool_()))
    assert values_of(made[count // 2 :]).tolist() == values[count // 2 :].tolist()


@pytest.mark.parametrize("told", [[], TEXTS, ["one"], [None, None]])
def test_texts_are_arrows(told: list[str | None]) -> None:
    made = texts(told)
    made.validate(full=True)
    assert made.equals(pa.array(told, pa.string()))


def test_what_is_null_is_filled() -> None:
    assert values_of(pa.array([1, None, 3], pa.int32()), missing=-1).tolist() == [1, -1, 3]
    assert values_of(pa.array([True, None], pa.bool_())).tolist() == [True, False]
    np.testing.assert_array_equal(values_of(pa.array([None, 2.0])[:1]), [np.nan])


def test_no_round_of_the_command_needs_pandas(tmp_path) -> None:
    code = (
        "import sys, fedrms.cli.simulate\n"
        "from fedrms.experiment import round_log, run\n"
        "told, finish = [], round_log.RoundLog.finish_round\n"
        "def finish_round(*arguments):\n"
        "    found = finish(*arguments)\n"
        "    told.append('pandas' in sys.modules)\n"
        "    return found\n"
        "round_log.RoundLog.finish_round = finish_round\n"
        f"run(['rounds=2', 'client.epochs=1'], folder={str(tmp_path / 'run')!r})\n"
        "print(told)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[False, False, False]"
