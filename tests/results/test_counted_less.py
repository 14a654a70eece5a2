"""Who counts less than its share, as the end of a run says it."""

import pandas as pd

import fedrms
from fedrms.results.counted_less import counted_less


def test_those_whom_the_last_round_gave_less_are_told_least_first(tmp_path):
    fedrms.run(["rounds=8", "clients=6"], folder=tmp_path / "noisy")
    head, *lines = counted_less(tmp_path / "noisy")
    assert head.startswith("weight in the last round")
    clients = pd.read_parquet(tmp_path / "noisy" / "clients.parquet")
    last = clients[clients["round"] == 8].set_index("client")
    less = last["weight"] / (last["num_examples"] / last["num_examples"].sum())
    less = less[less < 0.9].sort_values()
    assert [line.split(":")[0].strip() for line in lines] == less.index.astype(str).to_list()
    first = last.loc[less.index[0]]
    assert f"{first.weight:.1%} for " in lines[0]
    assert lines[0].endswith(f"noise {first.rms:.2f}, {first.rms_low:.2f} to {first.rms_high:.2f}")


def test_nobody_is_told_where_all_have_their_share_or_nothing_was_written(tmp_path):
    fedrms.run(["rounds=2", "clients=6", "strategy=fedavg"], folder=tmp_path / "even")
    assert counted_less(tmp_path / "even") == []
    assert counted_less(tmp_path) == []


def test_of_many_the_first_ten_are_named(tmp_path):
    rows = [
        {"round": 1, "client": number, "num_examples": 10, "weight": number / 400}
        for number in range(20)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "clients.parquet")
    lines = counted_less(tmp_path)
    assert lines[1] == "  0: 0.0% for 5.0% of the rows"
    assert len(lines) == 12
    assert lines[-1] == "  and 9 more"


def test_a_law_without_intervals_has_none_told(tmp_path):
    fedrms.run(["rounds=3", "strategy=fedrms_text"], folder=tmp_path / "text")
    _, *lines = counted_less(tmp_path / "text")
    assert lines
    assert all("; noise 0." in line and " to " not in line for line in lines)


def test_an_interval_that_begins_at_nothing_is_told(tmp_path):
    ends = {"rms": 0.1, "rms_low": 0.0, "rms_high": 0.3}
    rows = [{"round": 1, "client": k, "num_examples": 5, "weight": 0.5 * k} | ends for k in (0, 1)]
    pd.DataFrame(rows).to_parquet(tmp_path / "clients.parquet")
    assert counted_less(tmp_path)[1] == "  0: 0.0% for 50.0% of the rows; noise 0.10, 0.00 to 0.30"
