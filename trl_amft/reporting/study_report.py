"""The report of a study: one Markdown page with its tables, and the pictures beside it."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .study_figures import plot_accuracy, plot_curves, plot_weights
from .study_regret import Regret, end_of_curve, regrets, rollouts_until, share_that_loses
from .study_results import ORACLE, SeedMean, StudyResults, gather, three_digits
from .study_sources import plot_sources, source_table


if TYPE_CHECKING:
    from ..cli.study import Study


REPORT_FILE = "report.md"
# From this distance on a choice of policy counts as a loss.
LOSS = 0.1


def write_study_report(study: "Study", rows: list[dict[str, Any]], folder: Path) -> Path:
    """
    Write the page and its pictures.

    Args:
        study ([`~trl_amft.cli.study.Study`]):
            The study.
        rows (`list[dict[str, Any]]`):
            Its results so far, at least one of them finished.
        folder (`Path`):
            Where to write.

    Returns:
        `Path`: the page.
    """
    policies = list(dict.fromkeys(run.policy for run in study.runs))
    conditions = list(dict.fromkeys(run.condition for run in study.runs))
    results = gather(rows, policies, conditions, study.oracle)
    plot_accuracy(results, folder / "accuracy.png")
    plot_curves(results, folder / "rollouts.png", 1, "rollouts")
    plot_curves(results, folder / "seconds.png", 2, "seconds of training")
    plot_weights(results, folder / "weights.png")
    plot_sources(results, folder / "sources.png")
    page = folder / REPORT_FILE
    page.write_text(study_page(study, results, rows), encoding="utf-8")
    return page


def study_page(study: "Study", results: StudyResults, rows: list[dict[str, Any]]) -> str:
    """
    The page as Markdown.

    Args:
        study ([`~trl_amft.cli.study.Study`]):
            The study.
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Its results, brought together.
        rows (`list[dict[str, Any]]`):
            Single runs.

    Returns:
        `str`
    """
    rates = sorted({run.learning_rate for run in study.runs})
    finished = [row for row in rows if row["status"] == "finished"]
    lines = [
        f"# Study {study.name}",
        "",
        f"{len(finished)} of {len(study.runs)} runs. Recipe `{study.recipe}`; learning rates {rates}, for each policy "
        "and condition the one with the best mean accuracy, from the same number of choices. Intervals are 95 % over "
        "seeds by Student's t; with one seed there is none. A cell with (n = …) has fewer seeds than the rest.",
        "",
        *_warm_ups(study, finished),
        "## Final held-out accuracy",
        "",
        *_table(results, lambda policy, condition: _number(results, results.accuracy(policy, condition))),
        "",
    ]
    if results.best_of:
        lines += [f"`{ORACLE}` is the best in hindsight of {_oracle(results)}.", ""]
    for name in (name for name in study.baselines if name in results.policies):
        lines += [f"## Difference to `{name}`, paired by seed", "", *_table(results, _difference(results, name)), ""]
    lines += _regret(results, "Regret")
    if set(study.apart) & {policy for policy, _ in results.cells}:
        lines += _regret(
            results.without(study.apart), f"Regret without {', '.join(f'`{name}`' for name in study.apart)}"
        )
    for name in (name for name in study.reach if name in results.policies):
        lines += [f"## Thousand rollouts until `{name}` is reached", ""]
        lines += [
            "Until the curve of held-out accuracy, which has a point every `eval_steps` steps, is where that of "
            f"`{name}` ends. – is not run.",
            "",
            *_table(results, _reached(results, name)),
            "",
        ]
    for name in dict.fromkeys(name for row in finished for name in row["scores"]):
        lines += [f"## Final held-out accuracy by the reward `{name}`", ""]
        lines += [*_table(results, _scored(results, name)), ""]
    if by_source := source_table(results):
        lines += ["## Weight of each source", "", "Over the mixed steps that were logged.", "", *by_source, ""]
        lines += ["![Weight of each source](sources.png)", ""]
    lines += ["## Minutes of training per run", "", *_table(results, _minutes(results)), ""]
    if results.refused:
        lines += ["## Refused", ""]
        for (policy, condition, reason), seeds in results.refused.items():
            lines += [f"* {policy}, {condition}, seeds {', '.join(map(str, seeds))}: {reason}"]
        lines += [""]
    lines += [
        "![Final accuracy](accuracy.png)",
        "![Accuracy over rollouts](rollouts.png)",
        "![Accuracy over seconds](seconds.png)",
        "![Mixing weight](weights.png)",
        "",
        "Curves are means over seeds on the problems of `max_eval_samples`; rollouts and seconds are linear between "
        "the start, the end of the warm-up and the end. Rollouts are those of training; validation gradients take "
        "further ones. Seconds depend on what else the machine did.",
        "",
    ]
    return "\n".join(lines)


def _table(results: StudyResults, cell) -> list[str]:
    lines = ["| policy | " + " | ".join(results.conditions) + " |", "|---" * (len(results.conditions) + 1) + "|"]
    for policy in results.policies:
        cells = [cell(policy, condition) for condition in results.conditions]
        lines.append(f"| `{policy}` | " + " | ".join(cells) + " |")
    return lines


def _oracle(results: StudyResults) -> str:
    """What the oracle chose from and what it chose, condition by condition: not all policies run in each."""
    found: dict[str, list[str]] = {}
    for condition, policies in results.chosen_from.items():
        found.setdefault(", ".join(policies), []).append(f"{condition}: {results.best_of[condition]}")
    return "; of ".join(f"{policies} ({', '.join(chosen)})" for policies, chosen in found.items())


def _warm_ups(study: "Study", finished: list[dict[str, Any]]) -> list[str]:
    """Rows that should share a warm-up and do not, because it was made again on another machine."""
    starts = {run.name: run.start or run.name for run in study.runs}
    found: dict[str, set[float]] = {}
    for row in finished:
        if row.get("after_warm_up") is not None:
            found.setdefault(starts[row["name"]], set()).add(row["after_warm_up"])
    lines = [
        f"* The rows that go on from {start} had different warm-ups ({', '.join(map(str, sorted(values)))}); they are "
        "paired by their seed only."
        for start, values in found.items()
        if len(values) > 1
    ]
    return [*lines, ""] if lines else []


def _regret(results: StudyResults, title: str) -> list[str]:
    tables = [
        (regrets(results), "Which is best is told by the other seeds."),
        (
            regrets(results, hindsight=True),
            "The same with the best mean over all seeds as the best, in hindsight: here it counts if a policy fails "
            "with one seed, which the other seeds do not tell.",
        ),
    ]
    if not tables[0][0]:
        return []
    lines = [f"## {title}", "", "Accuracy of the best policy of a condition minus one's own, seed by seed.", ""]
    for found, explanation in tables:
        lines += [explanation, "", *_regret_table(results, found), ""]
        losing, pairs = share_that_loses(found, LOSS)
        lines += [f"{losing} of {pairs} pairs of policy and condition lose {LOSS:.0%} or more.", ""]
    return lines


def _regret_table(results: StudyResults, found: dict[str, Regret]) -> list[str]:
    def cell(policy: str, condition: str) -> str:
        return _number(results, found[policy].by_condition.get(condition), sign=True) if policy in found else "–"

    head, rule, *rows = _table(results, cell)
    lines = [f"{head} worst |", f"{rule}---|"]
    for row, policy in zip(rows, results.policies, strict=True):
        worst = three_digits(found[policy].by_condition[found[policy].worst].mean, True) if policy in found else "–"
        lines.append(f"{row} {worst} |")
    return lines


def _difference(results: StudyResults, baseline: str):
    def cell(policy: str, condition: str) -> str:
        return _number(results, results.difference(policy, condition, baseline), sign=True)

    return cell


def _reached(results: StudyResults, name: str):
    def cell(policy: str, condition: str) -> str:
        goal = end_of_curve(results, name, condition)
        if goal is None or (policy, condition) not in results.cells:
            return "–"
        found = rollouts_until(results, policy, condition, goal)
        return "never" if found is None else f"{found / 1000:.1f}"

    return cell


def _number(results: StudyResults, found: SeedMean | None, sign: bool = False) -> str:
    if found is None:
        return "–"
    text = three_digits(found.mean, sign)
    text = text if math.isnan(found.margin) else f"{text} ± {three_digits(found.margin)}"
    return text if found.seeds == results.seeds else f"{text} (n = {found.seeds})"


def _scored(results: StudyResults, name: str):
    def cell(policy: str, condition: str) -> str:
        values = [row["scores"][name] for row in results.cells.get((policy, condition), []) if name in row["scores"]]
        return three_digits(sum(values) / len(values)) if values else "–"

    return cell


def _minutes(results: StudyResults):
    def cell(policy: str, condition: str) -> str:
        rows = results.cells.get((policy, condition), [])
        return f"{sum(row['seconds'] for row in rows) / len(rows) / 60:.1f}" if rows else "–"

    return cell
