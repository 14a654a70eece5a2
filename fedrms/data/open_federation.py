"""The ways into a federation from Python: classmethods of :class:`fedrms.Federation`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedrms.data import own_data, own_datasets
from fedrms.data.own_data import OwnData


class FromPython:
    """Make what :func:`fedrms.simulate` takes of a person's own data.

    All take further options of ``data=parquet`` by name (``feature_columns``, ``drop_columns``,
    ``impute``, ``task``, ``test_fraction``, ...), and ``clients``, ``partition`` and ``noise``:
    a name, or a mapping with its options. Without them the owners in the data are the clients,
    and nothing is added to the data.
    """

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        client: str | None = None,
        label: str | list[str] | None = None,
        true_label: str | None = None,
        test: Any = None,
        **options: Any,
    ) -> OwnData:
        """Take a pandas frame, an arrow table or a Hugging Face data set.

        Parameters
        ----------
        frame, test : table
            Training and test rows; without the latter a part of the former is held out.
        client, label, true_label : str, optional
            Columns: whose a row is, what is predicted (default: label, target, y, labels or
            targets), and what the label should be.
        """
        return own_data.from_frame(frame, test, client, label, true_label, options)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        client: str | None = None,
        label: str | list[str] | None = None,
        true_label: str | None = None,
        **options: Any,
    ) -> OwnData:
        """Take parquet files where they are; see ``data=parquet``."""
        return own_data.from_files("parquet", path, client, label, true_label, options)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        client: str | None = None,
        label: str | list[str] | None = None,
        true_label: str | None = None,
        **options: Any,
    ) -> OwnData:
        """Take CSV files where they are, plain or gzipped; see ``data=csv``."""
        return own_data.from_files("csv", path, client, label, true_label, options)

    @classmethod
    def from_images(cls, path: str | Path, **options: Any) -> OwnData:
        """Take a folder of pictures, a folder a class, perhaps in one a client; see `data=images`.

        Parameters
        ----------
        path : path
            ``FOLDER/CLASS/picture.png`` or ``FOLDER/CLIENT/CLASS/picture.png``.
        **options
            ``size``, ``colour``, ``classes``, ``test_fraction``, ...
        """
        return own_data.from_files("images", path, None, None, None, options)

    @classmethod
    def from_arrays(cls, train: Any, *, test: Any = None, **options: Any) -> OwnData:
        """Take NumPy arrays or tensors, whose numbers stay as they are.

        Parameters
        ----------
        train : (x, y) or mapping of name to (x, y)
            ``x [rows, *shape]`` and ``y [rows]``, of everyone, or of each client by name. A
            third array says what the labels should be. ``y [rows, targets]`` are several labels of
            yes or no, or several targets. Signed whole numbers in x stay such, for
            ``torch.nn.Embedding`` (``integer_inputs=False``: floats).
        test : the same, optional
        """
        return own_data.from_arrays(train, test, options)

    @classmethod
    def from_datasets(cls, train: Any, *, test: Any = None, **options: Any) -> OwnData:
        """Take data sets of pairs (x, y), such as torch's, or Hugging Face's: one, or one a client.

        Items may be dicts of an input and a ``label``. Of Hugging Face's each column is a feature,
        and ``label="..."`` names what is predicted.
        """
        return own_datasets.from_datasets(train, test, options)
