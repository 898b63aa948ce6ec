"""README and docs/results.md hold the numbers of the reports, which are made from the lines of the runs."""

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


def reported_by(study):
    """Cells of a report by table, policy and condition."""
    reported = {}
    for heading, head, cells in rows_of(ROOT / "docs" / "results" / study / "report.md"):
        kind = re.match(r"Final held-out accuracy|Difference to `(\w+)`|Regret without", heading)
        if kind:
            # Of the two tables of regrets the second counts: against the best in hindsight.
            for condition, cell in zip(head[1:], cells[1:], strict=True):
                name = (kind[1] or heading, cells[0].strip("`"), condition.strip("`"))
                reported[name] = short(cell)
    return reported


@pytest.mark.parametrize("study", ["core", "virl"])
def test_tables_agree_with_the_report(study):
    reported = reported_by(study)
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


def policy_of(words):
    """`fixed`, μ = .1 is the study's fixed_.1."""
    name, weight = re.match(r"`(\w+)`(?:, μ = (\.\d))?", words).groups()
    return f"{name}_{weight}" if weight else name


def test_readme_agrees_with_the_reports():
    reports = {study: reported_by(study) for study in ("core", "virl")}
    final, regret = "Final held-out accuracy", "Regret without `filter_sft_then_rl`, `amft_good_only`"
    conditions = [
        ("core", name) for name in ("a_q1", "a_q.5", "a_q0", "b_q1", "b_q.5", "b_q0", "c_q.5", "d_q.5", "d_q0")
    ]
    conditions += [("virl", name) for name in ("q1", "q.5", "q0")]
    rows = list(rows_of(ROOT / "README.md"))

    accuracies = [(head, cells) for _, head, cells in rows if head[0] == "demonstrations"]
    for (study, condition), (head, cells) in zip(conditions, accuracies, strict=True):
        for title, cell in zip(head[1:], cells[1:], strict=True):
            assert cell == reports[study][final, policy_of(title), condition], (cells[0], title)

    worst = [cells for _, head, cells in rows if head == ["", "Countdown", "V-IRL"]]
    assert worst
    for words, *cells in worst:
        for study, cell in zip(("core", "virl"), cells, strict=True):
            number = reports[study][regret, policy_of(words), "worst"].split(" ± ")[0]
            assert float(cell.split()[0]) == pytest.approx(100 * float(number)), (words, study)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_count_of_runs_agrees_with_the_report(page):
    report = (ROOT / "docs" / "results" / "core" / "report.md").read_text()
    done, planned = re.findall(r"^(\d+) of (\d+) runs", report, re.MULTILINE)[0]
    text = (ROOT / page).read_text()
    said = set(re.findall(rf"(\d+) of (?:the )?{planned} runs", text)) | set(re.findall(r"\*\*(\d+) of them", text))
    assert said == ({done} if done != planned else set())
