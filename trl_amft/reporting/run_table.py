"""The run in three lines: before training, after the warm-up, after training."""

import math

from rich.table import Table


STAGES = {"before": "before", "warm_up": "after warm-up", "after": "after"}


def run_table(rows: list[dict], title: str) -> Table:
    """
    Table of the evaluations of a run.

    Args:
        rows (`list[dict]`):
            One per evaluation with the keys `stage`, `step`, `accuracy`, `standard_error`, `reward`, `mu`, `seconds`
            and `rollouts`. `None` stands for what does not exist at that point.
        title (`str`):
            Title of the table.

    Returns:
        `Table`: to be printed with [`rich.console.Console.print`].
    """
    table = Table(title=title)
    table.add_column("held out", no_wrap=True)
    for column in ("step", "accuracy ± SE", "reward", "μ", "seconds", "rollouts"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            STAGES[row["stage"]],
            str(row["step"]),
            _with_error(row["accuracy"], row["standard_error"]),
            _number(row["reward"], 3),
            _number(row["mu"], 3),
            _number(row["seconds"], 0),
            _number(row["rollouts"], 0),
        )
    return table


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.3f} ± {error:.3f}" if error is not None and math.isfinite(error) else f"{value:.3f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
