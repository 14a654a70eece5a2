"""The report: one page that says who was noisy, what the server did, who gained and who lost."""

from fedrms.results.report.report import Report, write_report

__all__ = ["Report", "write_report"]
