"""
The report of one run or several: `report.html` with everything inside, and the same pictures as PNGs beside it.

It is made from files only, so it can be made at any time: after the run, beside it, or when it is dead.
"""

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from . import html_page as page
from .panels import PANELS
from .report_figures import draw_comparison, draw_run
from .run_folder import HELD_OUT, LOG_FILE, Run
from .samples import as_text


PANEL_BY_NAME = {panel.name: panel for panel in PANELS}


def write_report(runs: list[Run], folder: Path) -> Path:
    """
    Write the report.

    Args:
        runs (`list[`[`~trl_amft.reporting.run_folder.Run`]`]`):
            One run, or several to compare.
        folder (`Path`):
            Where to. It is created.

    Returns:
        `Path`: the page.
    """
    names = distinct_names(runs)
    folder.mkdir(parents=True, exist_ok=True)
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs"
    body = [f"<h1>{page.text(title)}</h1>"]
    if len(runs) == 1:
        body += _run_sections(runs[0], folder / "figures")
    else:
        body += _comparison(runs, names, folder)
        for index, (run, name) in enumerate(zip(runs, names, strict=True)):
            body.append(page.section(name, "", f"run-{index}"))
            body.append(page.folded("all of this run", "\n".join(_run_sections(run, folder / f"figures-{index}", 3))))
    written = time.strftime("%Y-%m-%d %H:%M")
    body.append(f"<footer>Written {written} by trl_amft. The method's paper is withdrawn, see the README.</footer>")
    path = folder / "report.html"
    path.write_text(page.page(title, body), encoding="utf-8")
    return path


def distinct_names(runs: list[Run]) -> list[str]:
    """Names of folders; with as many parents as it takes to tell them apart."""
    for parts in range(1, 8):
        names = ["/".join(run.folder.resolve().parts[-parts:]) for run in runs]
        if len(set(names)) == len(runs):
            return names
    return [f"{name} ({index})" for index, name in enumerate(names, start=1)]


def _run_sections(run: Run, figures: Path, level: int = 2) -> list[str]:
    parts = [page.paragraph(_state(run), "note" if run.finished else "warning"), page.numbers(_numbers(run))]
    drawn = draw_run(run, figures)
    pictures = [
        page.picture(path, panel.title, panel.explanation + panel.alone)
        for panel, path in ((PANEL_BY_NAME[name], path) for name, path in drawn.items())
    ]
    anchor = figures.name

    def add(heading: str, content: str, name: str) -> None:
        parts.append(page.section(heading, content, f"{anchor}-{name}", level))

    if run.held_out:
        add("Held-out evaluations", page.table(*_evaluations(run)), "held-out")
    add("Curves", page.panels(pictures) if pictures else page.paragraph("Nothing was logged yet."), "curves")
    add("Sample completions", _samples(run), "samples")
    add("Resolved recipe", _recipe(run), "recipe")
    add("Versions", page.paragraph(run.versions or "Not recorded in this folder.", "plain"), "versions")
    content = page.folded(
        f"{len(_ranges(run))} quantities", page.table(("name", "first", "last", "lowest", "highest"), _ranges(run))
    )
    add("All logged numbers", content, "numbers")
    return parts


def _state(run: Run) -> str:
    of = f" of {run.max_steps}" if run.max_steps else ""
    if run.finished:
        return f"Finished: {run.last_step} steps. Log: {run.source}."
    modified = time.strftime("%Y-%m-%d %H:%M", time.localtime((run.folder / run.source).stat().st_mtime))
    what = "last entry" if run.source == LOG_FILE else "written"
    return (
        f"Not finished: step {run.last_step}{of}. Log: {run.source}, {what} {modified}. The run is under way, was "
        "stopped, or is dead."
    )


def _numbers(run: Run) -> list[tuple[str, str]]:
    entries = [("method", run.method)] if run.recipe else []
    entries.append(("steps", f"{run.last_step}" + (f" of {run.max_steps}" if run.max_steps else "")))
    if run.held_out:
        step, accuracy, error = run.held_out[-1]
        entries.append((f"held-out accuracy, step {step}", with_error(accuracy, error)))
    for key, label in (
        ("eval_reward", "held-out reward, last"),
        ("reward", "training reward, last"),
        ("amft/mu", "μ, last"),
        ("amft/meta_gradient_snr", "t value of dU/dμ, last"),
        ("entropy", "entropy, last"),
        ("frac_reward_zero_std", "dead groups, last"),
        ("time/step", "seconds per step, last"),
    ):
        value = run.last(key)
        if value is not None:
            entries.append((label, short(value)))
    return entries


def _evaluations(run: Run) -> tuple[tuple[str, ...], Iterable[tuple[object, ...]]]:
    rows = {row["step"]: row for row in run.log if f"{HELD_OUT}accuracy" in row}
    head = ("step", "accuracy ± SE", "problems", "samples each", "tokens, mean", "cut", "seconds of training")
    keys = ("num_problems", "num_samples", "mean_completion_tokens", "truncated_share")
    accuracy = {step: with_error(value, error) for step, value, error in run.held_out}
    return head, [
        (
            step,
            accuracy.get(step, "–"),
            *(short(row.get(f"{HELD_OUT}{key}")) for key in keys),
            _seconds(row.get(f"{HELD_OUT}seconds")),
        )
        for step, row in sorted(rows.items())
    ]


def _seconds(value: object) -> str:
    return short(round(value, 1) if isinstance(value, float) and math.isfinite(value) else value)


def _samples(run: Run) -> str:
    if not run.samples:
        return page.paragraph("None in this folder. The train command records some; `log_completions` records all.")
    by_step: dict[int, list[dict[str, Any]]] = {}
    for sample in run.samples:
        by_step.setdefault(int(sample.get("step") or 0), []).append(sample)
    *earlier, newest = sorted(by_step)
    parts = [_samples_of(by_step[newest], newest)]
    parts += [page.folded(f"step {step}", _samples_of(by_step[step], step)) for step in reversed(earlier)]
    return "\n".join(parts)


def _samples_of(samples: list[dict[str, Any]], step: int) -> str:
    parts, prompt = [page.paragraph(f"Step {step}. The advantage is what the RL loss weighs a completion by.")], None
    for sample in samples:
        if sample.get("prompt") != prompt:
            prompt = sample.get("prompt")
            parts.append(page.preformatted(as_text(prompt)))
        rewards = {str(name): value for name, value in (sample.get("rewards") or {}).items()}
        badges = [f"{name} {short(value)}" for name, value in rewards.items()]
        badges.append(f"advantage {short(sample.get('advantage'))}")
        shown = "".join(f'<span class="badge">{page.text(badge)}</span>' for badge in badges)
        parts.append(f'<div class="sample">{shown}{page.preformatted(as_text(sample.get("completion")))}</div>')
    return "\n".join(parts)


def _recipe(run: Run) -> str:
    if not run.recipe:
        return page.paragraph("Not recorded in this folder: the run was not started by the train command.")
    shown = yaml.safe_dump(run.recipe, allow_unicode=True)
    return page.paragraph("Every field that differs from its default.") + page.preformatted(shown)


def _ranges(run: Run) -> list[tuple[str, ...]]:
    values: dict[str, list[float]] = {}
    for row in run.log:
        for key, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value) and key not in ("step", "epoch"):
                values.setdefault(key, []).append(value)
    return [
        (key, short(found[0]), short(found[-1]), short(min(found)), short(max(found)))
        for key, found in sorted(values.items())
    ]


def _comparison(runs: list[Run], names: list[str], folder: Path) -> list[str]:
    links = "".join(f'<a href="#run-{index}">{page.text(name)}</a>' for index, name in enumerate(names))
    head = (
        "run",
        "method",
        "seed",
        "steps",
        "held-out accuracy ± SE",
        "held-out reward",
        "reward",
        "μ",
        "dead groups",
    )
    rows = []
    for run, name in zip(runs, names, strict=True):
        held_out = with_error(*run.held_out[-1][1:]) if run.held_out else "–"
        keys = ("eval_reward", "reward", "amft/mu", "frac_reward_zero_std")
        seed = run.setting("seed") if run.recipe else "–"
        steps = f"{run.last_step}" + ("" if run.finished else " (not finished)")
        rows.append((name, run.method, seed, steps, held_out, *(short(run.last(key)) for key in keys)))
    drawn = draw_comparison(runs, names, folder / "figures")
    pictures = [
        page.picture(path, PANEL_BY_NAME[name].title, PANEL_BY_NAME[name].explanation) for name, path in drawn.items()
    ]
    return [
        f"<nav>{links}</nav>",
        page.section("Side by side", page.table(head, rows), "runs"),
        page.paragraph("The last number that was logged. One run each says little: compare over seeds."),
        page.section("Curves", page.panels(pictures), "curves"),
        page.paragraph("The first curve of each picture; targets and bounds are in the part of each run, below."),
        page.section("Where the recipes differ", _differences(runs, names), "recipes"),
    ]


def _differences(runs: list[Run], names: list[str]) -> str:
    if not all(run.recipe for run in runs):
        missing = [name for run, name in zip(runs, names, strict=True) if not run.recipe]
        return page.paragraph(f"No recipe in the folder of {', '.join(missing)}.")
    keys = sorted({key for run in runs for key in run.recipe})
    rows = []
    for key in keys:
        values = [run.recipe.get(key, "default") for run in runs]
        if key != "output_dir" and any(value != values[0] for value in values):
            rows.append((key, *(int(v) if isinstance(v, float) and v.is_integer() else v for v in values)))
    return page.table(("field", *names), rows) if rows else page.paragraph("Nowhere, but for the output folder.")


def with_error(value: float, error: float) -> str:
    """A number with its standard error, where there is one."""
    # The spaces do not break, so that a narrow cell keeps both on one line.
    return f"{value:.3f}\u00a0±\u00a0{error:.3f}" if math.isfinite(error) else f"{value:.3f}"


def short(value: object) -> str:
    """A number as a table shows it; a dash for what is not there."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
