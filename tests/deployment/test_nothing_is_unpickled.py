"""What a client sends is never unpickled, whatever it says of itself."""

import io
import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from fedrms.engines.flower_border import become_server, number
from fedrms.replies.claims import Addressees
from fedrms.replies.cohort import Layout
from fedrms.replies.membership import Membership
from fedrms.replies.replies import read_replies


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def bomb_in_numpys_format():
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()] * 3, dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("stype", "data"),
    [
        ("numpy.ndarray", pickle.dumps(Bomb())),
        ("numpy.ndarray", bomb_in_numpys_format()),
        ("pickle", pickle.dumps(Bomb())),
        ("torch.Tensor", pickle.dumps(Bomb())),
    ],
    ids=["a pickle", "objects in NumPy's format", "called a pickle", "called a tensor"],
)
def test_an_array_that_is_a_pickle_is_refused_and_never_loaded(stype, data):
    become_server(1)
    sent = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    message = Message(RecordDict({"arrays": sent}), dst_node_id=2, message_type="train")
    number(message)
    forged = Array(dtype="float32", shape=(3,), stype=stype, data=data)
    content = RecordDict(
        {"arrays": ArrayRecord({"w": forged}), "metrics": MetricRecord({"num-examples": 3})}
    )
    reply = Message(content, reply_to=message)
    number(reply)
    addressees = Addressees.of([message], Membership(0, ask=False, timeout=1.0))
    cohort = read_replies([reply], Layout.of(sent), addressees)
    assert cohort.clients == []
    (reason,) = cohort.failures.values()
    assert "cannot be decoded" in reason


def test_the_bomb_would_go_off():
    with pytest.raises(SystemExit, match="unpickled"):
        pickle.loads(pickle.dumps(Bomb()))
    with pytest.raises(SystemExit, match="unpickled"):
        np.load(io.BytesIO(bomb_in_numpys_format()), allow_pickle=True)
