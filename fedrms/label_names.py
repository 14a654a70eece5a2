"""What labels are usually called: in tables, in items of data sets and in batches."""

LABEL_NAMES = ("label", "target", "y", "labels", "targets")
"""In the order in which they are looked for."""
