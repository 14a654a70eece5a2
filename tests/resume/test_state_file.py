"""What is put into a state file comes back, and nothing else is taken for one."""

from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrms.experiment.state_file import BrokenStateError, UnsavableError, read_state, write_state

TREE = {
    "plain": [None, True, 1, 2**70, 0.1, float("inf"), "text", b"\x00\xff"],
    "dict": {1: "int", "1": "text", (2, "pair"): [0.5]},
    "order": {"b": 1, "a": 2},
    "kinds": (Counter({3: 2}), OrderedDict(x=1), {4, 5}),
    "arrays": [np.zeros((0, 3)), np.float32(0.25), np.arange(6).reshape(2, 3).T, np.array(True)],
    "tensors": [torch.tensor([1.5, 2.5], dtype=torch.bfloat16), torch.tensor(3.0)],
}


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray | np.generic):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def test_a_tree_comes_back_with_its_types_and_its_order(tmp_path):
    write_state(tmp_path / "state", TREE)
    assert_same(read_state(tmp_path / "state"), TREE)


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False), st.integers(), st.text())
def test_numbers_and_text_come_back_to_the_bit(tmp_path_factory, number, whole, text):
    path = tmp_path_factory.mktemp("state") / "state"
    write_state(path, {"number": number, "whole": whole, "text": {text: np.zeros(1)}})
    back = read_state(path)
    assert np.float64(back["number"]).tobytes() == np.float64(number).tobytes()
    assert back["whole"] == whole
    assert list(back["text"]) == [text]


def test_flowers_records_come_back(tmp_path):
    arrays = ArrayRecord({"b": torch.eye(2), "a": torch.tensor(7)})
    write_state(tmp_path / "state", {"arrays": arrays, "config": ConfigRecord({"lr": 0.1})})
    back = read_state(tmp_path / "state")
    assert list(back["arrays"]) == ["b", "a"]
    assert np.array_equal(back["arrays"]["b"].numpy(), np.eye(2, dtype=np.float32))
    assert back["arrays"]["a"].numpy().dtype == np.int64
    assert back["config"] == ConfigRecord({"lr": 0.1})


@pytest.mark.parametrize("value", [object(), lambda: 0, np.array([object()]), 1j, np.ones(1) * 1j])
def test_what_has_no_form_is_named_by_its_place(tmp_path, value):
    with pytest.raises(UnsavableError, match="strategy/helper is a"):
        write_state(tmp_path / "state", {"strategy": {"helper": value}})
    assert not (tmp_path / "state").exists()


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "state"
    write_state(path, TREE)
    whole = path.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BrokenStateError, match="truncated, or no checkpoint"):
            read_state(path)


def test_a_changed_byte_is_refused_wherever_it_is(tmp_path):
    path = tmp_path / "state"
    write_state(path, TREE)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BrokenStateError):
            read_state(path)


def test_another_safetensors_file_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3)}, tmp_path / "state")
    with pytest.raises(BrokenStateError):
        read_state(tmp_path / "state")
