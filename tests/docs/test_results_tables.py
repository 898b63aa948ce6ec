"""The tables of docs/results.md hold the numbers of the reports, which are made from the lines of the runs."""

import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


def rows_of(path):
    """Heading, head and cells of each row of each table."""
    heading, head = "", None
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if head is None:
            head = cells
        elif set("".join(cells)) - set("-: "):
            yield heading, head, cells


def short(number):
    """As the page writes it: .334 and −.031."""
    return re.sub(r"(?<!\d)0\.", ".", number).replace("-", "−")


@pytest.mark.parametrize("study", ["core", "virl"])
def test_tables_agree_with_the_report(study):
    reported = {}
    for heading, head, cells in rows_of(ROOT / "docs" / "results" / study / "report.md"):
        kind = re.match(r"Final held-out accuracy|Difference to `(\w+)`|Regret without", heading)
        if kind:
            # Of the two tables of regrets the second counts: against the best in hindsight.
            for condition, cell in zip(head[1:], cells[1:], strict=True):
                name = (kind[1] or heading, cells[0].strip("`"), condition.strip("`"))
                reported[name] = short(cell)
    conditions = {condition for _, _, condition in reported}
    headings = {heading for heading, _, _ in reported if heading.startswith("Final")}
    regrets = {heading for heading, _, _ in reported if heading.startswith("Regret")}
    compared = 0
    for _, head, cells in rows_of(ROOT / "docs" / "results.md"):
        regret, policy, minus = re.match(r"(regret of )?(?:`([\w.]+)`)?(?: − `(\w+)`)?", cells[0]).groups()
        condition = None
        for title, cell in zip(head[1:], cells[1:], strict=True):
            condition = title.strip("`") if title.strip("`") in conditions else condition
            if condition is None or not (regret or "±" in cell):
                continue
            baseline = re.fullmatch(r"− `(\w+)`", title)
            baseline = baseline[1] if baseline else minus
            names = regrets if regret else headings if baseline is None else {baseline}
            found = {reported.get((name, policy, condition), "") for name in names} - {""}
            if regret:
                found = {number.split(" ± ")[0].strip("+") for number in found}
            # Further rewards are reported without an interval; not every difference is.
            assert not found or found & {cell, cell.split(" ± ")[0]}, (policy, condition, title, cell, found)
            compared += bool(found)
    assert compared > 20
