"""An altered file is known by the digest that it carries."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedrms.results.seal import (
    AlteredError,
    TableDigest,
    read_json,
    read_table,
    read_text,
    sealed_json,
    sealed_schema,
    sealed_text,
    table_digest,
)

TABLE = pa.table({"round": [1, 2], "loss": [0.5, np.nan], "why": ["x", None], "ok": [True, False]})


@pytest.mark.parametrize(
    ("column", "value"),
    [("round", [1, 3]), ("loss", [0.5, 0.5]), ("why", ["x", "None"]), ("ok", [True, True])],
)
def test_a_digest_is_of_every_value(column, value):
    other = TABLE.set_column(TABLE.column_names.index(column), column, pa.array(value))
    assert table_digest(other) != table_digest(TABLE)


def test_a_digest_is_of_names_and_rows_and_not_of_chunks_or_unknown_columns():
    assert table_digest(TABLE.rename_columns(["round", "lass", "why", "ok"])) != table_digest(TABLE)
    assert table_digest(TABLE.slice(0, 1)) != table_digest(TABLE)
    parts = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert table_digest(parts) == table_digest(TABLE)
    more = TABLE.append_column("later", pa.array([np.nan, np.nan]))
    assert table_digest(more) == table_digest(TABLE)


@pytest.mark.parametrize("cut", range(3))
def test_a_digest_told_in_pieces_is_that_of_the_whole_also_of_later_columns(cut):
    digest = TableDigest()
    digest.add(TABLE.select(["round", "ok"]))
    more = TABLE.append_column("later", pa.array([1.0, None])).append_column("text", pa.array("ab"))
    for piece in (more.slice(0, cut), more.slice(cut)):
        digest.add(piece.cast(more.schema))
    missing = {"loss": np.full(2, np.nan), "later": np.full(2, np.nan)}
    nothing = {"why": pa.nulls(2, pa.string()), "text": pa.nulls(2, pa.string())}
    before = pa.table({**dict(TABLE.select(["round", "ok"]).to_pydict()), **missing, **nothing})
    whole = pa.concat_tables([before.select(more.column_names), more], promote_options="permissive")
    assert digest.hexdigest() == table_digest(whole)


def test_texts_are_told_apart_by_where_they_end():
    digests = {
        table_digest(pa.table({"why": pa.array(texts, pa.string())}))
        for texts in (["ab", "c"], ["a", "bc"], ["abc", None], ["abc", ""], [None, "abc"])
    }
    assert len(digests) == 5


def test_a_table_that_was_written_anew_with_other_values_is_refused(tmp_path):
    sealed = TABLE.cast(sealed_schema(TABLE))
    pq.write_table(sealed, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert table_digest(read) == table_digest(TABLE)
    assert read.schema.equals(TABLE.schema, check_metadata=True)
    pq.write_table(sealed.slice(0, 1), tmp_path / "t.parquet")
    with pytest.raises(AlteredError, match=r"t\.parquet is not as it was written"):
        read_table(tmp_path / "t.parquet")


def test_the_seal_of_a_file_is_also_of_columns_of_which_nothing_is_known(tmp_path):
    table = TABLE.append_column("later", pa.array([np.nan, np.nan]))
    pq.write_table(table.cast(sealed_schema(table)), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content.replace(b"later", b"lates"))
    with pytest.raises(AlteredError, match=r"t\.parquet"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_no_flipped_bit_of_a_text_gives_another_content(kind, tmp_path):
    content = {"seed": 3, "name": "é"}
    text = sealed_text("seed: 3\nrounds: 25\n") if kind == "text" else sealed_json(content)
    read = read_text if kind == "text" else read_json
    path = tmp_path / "file"
    path.write_text(text)
    right = read(path)
    for bit in range(8 * len(text.encode())):
        altered = bytearray(text.encode())
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        try:
            told = read(path)
        except AlteredError:
            continue
        assert told == right


def test_a_digest_under_an_altered_name_is_known_for_one(tmp_path):
    path = tmp_path / "file.json"
    path.write_text(sealed_json({"rounds": 3}).replace('"sha256"', '"rha256"'))
    with pytest.raises(AlteredError, match="not as it was written"):
        read_json(path)
    path.write_text(json.dumps({"rounds": 3, "revision": "0" * 64}))  # of before there were any
    assert read_json(path)["rounds"] == 3


def test_a_small_file_that_would_fill_the_memory_is_refused_before_it_does(tmp_path):
    column = pa.nulls(20_000_000, pa.null())
    pq.write_table(pa.table({f"c{number}": column for number in range(8)}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 1 << 20
    with pytest.raises(AlteredError, match=r"t\.parquet cannot be read: .* unfold to 1220 MB"):
        read_table(tmp_path / "t.parquet")
