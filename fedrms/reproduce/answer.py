"""What a table shows, in a sentence and a line a scenario: the row in focus beside the baseline."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedrms.reproduce.numbers import Numbers
from fedrms.reproduce.plan import Plan
from fedrms.results.table import comparison_cells, markdown

_SHOWN = ("difference", "better", "gap")


def answer(plan: Plan, numbers: Sequence[Numbers]) -> list[str]:
    """Return what the row in focus does, as parts of a page; none where it did not run.

    Parameters
    ----------
    plan : Plan
        The table.
    numbers : sequence of Numbers
        What came of its scenarios.
    """
    ran = [each for each in numbers if plan.focus in each.comparison.index]
    if not ran or plan.focus == plan.baseline:
        return []
    return ["## What it shows", _sentence(plan, ran), _table(plan, ran)]


def _sentence(plan: Plan, ran: Sequence[Numbers]) -> str:
    told = {each.scenario: str(each.comparison["better"][plan.focus]) for each in ran}
    better, worse = ([s for s, verdict in told.items() if verdict == v] for v in ("yes", "no"))
    rest = [scenario for scenario, verdict in told.items() if verdict not in ("yes", "no")]
    said = f"`{plan.focus}` beside `{plan.baseline}`: better in {_of(better, len(told))}, "
    said += f"worse in {_of(worse, len(told))}."
    return f"{said} These seeds do not decide {', '.join(rest)}." if rest else said


def _of(names: Sequence[str], scenarios: int) -> str:
    if not names:
        return "none"
    many = "scenario" if scenarios == 1 else "scenarios"
    return f"{len(names)} of {scenarios} {many} ({', '.join(names)})"


def _table(plan: Plan, ran: Sequence[Numbers]) -> str:
    lines = []
    for each in ran:
        cells = comparison_cells(each.comparison).set_index("strategy")
        score = str(cells.columns[1])  # after the runs
        columns = [str(column) for column in cells]
        named = {name: column for name in _SHOWN for column in columns if column.startswith(name)}
        line = {"scenario": f"{each.scenario}: {plan.scenarios[each.scenario]}"}
        line |= {column: str(cells[column][plan.focus]) for column in named.values()}
        for row in (plan.focus, plan.baseline):
            line[f"{row}, {score}"] = str(cells[score].get(row, "-"))
        lines.append(line)
    fullest = max(lines, key=len)  # where nobody is noisy there is no gap
    return markdown(pd.DataFrame(lines, columns=list(fullest)).fillna("-"), texts=1)
