"""One command a table: many runs, their comparison, a page and a figure."""

from fedrms.reproduce.plan import Plan, plan_names, read_plan

__all__ = ["Plan", "plan_names", "read_plan"]
