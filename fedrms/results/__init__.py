"""What came out of a run: its tables, its fairness, its comparison with other runs."""

from fedrms.results.compare import compare
from fedrms.results.fairness import client_metrics, weighting_metrics
from fedrms.results.looks import by_look
from fedrms.results.recorder import Recorder
from fedrms.results.runs import Runs, load_runs
from fedrms.results.summary import summarise, write_summary

__all__ = [
    "Recorder",
    "Runs",
    "by_look",
    "client_metrics",
    "compare",
    "load_runs",
    "summarise",
    "weighting_metrics",
    "write_summary",
]
