"""One set, problem by problem: sample, grade, write down. What is written down is not done again.

A set has two files in the output folder. `NAME.samples.jsonl` grows by a group of problems at a time, after a first
line with the settings; `NAME.json` has the summary and appears when the set is finished. The seed of a group follows
from the settings and its place, so a run that was cut off and goes on gives what an undisturbed one gives.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..demonstrations.pictures import PICTURE_COLUMNS, pictures_digest, pictures_of
from ..grading.answer_keys import answer_key
from .errors import EvaluationError, unanswerable
from .samplers import PromptError, Sample, Sampler, derived_seed
from .scoring import score


# Completions that are graded in one call, so that the time limit of the grader fits.
GRADED_AT_ONCE = 256


RECORD_FIELDS = {"id", "rewards", "tokens", "truncated", "answers", "undecided", "level", "subject", "completions"}


def evaluate_set(
    name: str,
    dataset: Dataset,
    reward_funcs: list[Callable],
    sampler: Sampler,
    *,
    samples: int,
    seed: int,
    settings: dict[str, Any],
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """
    Sample and grade what is not yet written down.

    Args:
        name (`str`):
            Name of the set and of its files.
        dataset (`Dataset`):
            Column `prompt` and those that the rewards read; `image` or `images`, `solution`, `level` and `subject` are
            used where they exist.
        reward_funcs (`list[Callable]`):
            Rewards with TRL's signature. A sample is correct if their sum is 1 or more.
        sampler ([`~trl_amft.evaluation.samplers.Sampler`]):
            The model.
        samples (`int`):
            Completions per problem.
        seed (`int`):
            Seed of the sampling.
        settings (`dict[str, Any]`):
            What the results depend on. Results of other settings are refused.
        folder (`Path`):
            Output folder.
        progress (`Callable[[int], None]`, *optional*):
            Called with the number of problems that are done.

    Returns:
        `list[dict[str, Any]]`: one record per problem, in order: `id`, `rewards`, `tokens`, `truncated`, `answers`
        (one form per answer, or `None` where the task has none), `undecided`, `level`, `subject`, `route` (of V-IRL),
        `completions`.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: if the output folder holds results of other settings or a
            file that cannot be read, or if a prompt leaves no room for an answer.
    """
    settings = settings | {"set": name, "samples": samples, "seed": seed, "problems": fingerprint(dataset)}
    path = folder / f"{name}.samples.jsonl"
    records = _read(path, settings)
    per_group = max(1, sampler.group_size // samples)
    # A group that was cut off is drawn again as a whole: its seed is that of its first problem.
    del records[len(records) - len(records) % per_group if len(records) < len(dataset) else len(records) :]
    if not records:
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    progress(len(records))
    with path.open("r+" if records else "a", encoding="utf-8") as file:
        if records:
            _keep_lines(file, len(records) + 1)
        for start in range(len(records), len(dataset), per_group):
            rows = list(dataset.select(range(start, min(start + per_group, len(dataset)))))
            drawn = _drawn(sampler, name, rows, samples, derived_seed(seed, name, start), start)
            group = _graded(rows, drawn, reward_funcs)
            file.write("".join(json.dumps(record) + "\n" for record in group))
            file.flush()
            os.fsync(file.fileno())
            records += group
            progress(len(records))
    return records


def fingerprint(dataset: Dataset) -> str:
    """Short hash of the problems and their answers, in order."""
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(problem_id(row).encode())
    return digest.hexdigest()[:16]


def problem_id(row: dict[str, Any]) -> str:
    """Short hash of a problem with its pictures and all that its rewards read."""
    shown = pictures_digest(row)
    if shown:
        row = {key: value for key, value in row.items() if key not in PICTURE_COLUMNS} | {"pictures": shown}
    return hashlib.sha256(json.dumps(row, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _drawn(sampler: Sampler, name: str, rows: list[dict], samples: int, seed: int, start: int) -> list[list[Sample]]:
    prompts, pictures = [row["prompt"] for row in rows], [pictures_of(row) for row in rows]
    try:
        if any(pictures):
            return sampler.sample(prompts, samples, seed, pictures)
        return sampler.sample(prompts, samples, seed)
    except PromptError as error:
        raise unanswerable(name, start + error.index + 1, error.reason) from None


def _graded(rows: list[dict], drawn: list[list[Sample]], reward_funcs: list[Callable]) -> list[dict[str, Any]]:
    flat = [(row, sample) for row, samples in zip(rows, drawn, strict=True) for sample in samples]
    rewards: list[float] = []
    undecided = 0.0

    def count(metric: str, value: float) -> None:
        nonlocal undecided
        undecided += value if metric == "grader/timed_out" else 0.0

    for start in range(0, len(flat), GRADED_AT_ONCE):
        part = flat[start : start + GRADED_AT_ONCE]
        rewards += score(
            [row for row, _ in part],
            [sample.text for _, sample in part],
            [sample.ids for _, sample in part],
            reward_funcs,
            [1.0] * len(reward_funcs),
            log_metric=count,
        )
    records, values = [], iter(rewards)
    for index, (row, samples) in enumerate(zip(rows, drawn, strict=True)):
        solution = row.get("solution")
        records.append(
            {
                "id": problem_id(row),
                "rewards": [next(values) for _ in samples],
                "tokens": [len(sample.ids) for sample in samples],
                "truncated": [sample.truncated for sample in samples],
                "answers": [answer_key(s.text, solution) for s in samples] if isinstance(solution, str) else None,
                # The graders tell only how many; the first problem of the group carries them.
                "undecided": int(undecided) if index == 0 else 0,
                "level": row.get("level"),
                "subject": row.get("subject"),
                "route": row.get("route"),
                "completions": [sample.text for sample in samples],
            }
        )
    return records


def _read(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = list(_whole_lines(path))
    if not lines:
        return []
    check_settings(path, lines[0], settings)
    for number, record in enumerate(lines[1:], start=2):
        if not set(record) >= RECORD_FIELDS:
            raise _broken(path, number)
    return lines[1:]


def _broken(path: Path, number: int) -> EvaluationError:
    return EvaluationError(f"{path} is broken in line {number}; delete the file, or give another output_dir")


def check_settings(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """
    Refuse results of other settings.

    Args:
        path (`Path`):
            Where they were found, for the message.
        found (`dict[str, Any]`):
            Their settings.
        wanted (`dict[str, Any]`):
            Those of this run.

    Raises:
        [`~trl_amft.evaluation.errors.EvaluationError`]: in one line that names the first difference.
    """
    for key in sorted(set(found) | set(wanted)):
        if found.get(key) != wanted.get(key):
            raise EvaluationError(
                f"{path} has {key}={found.get(key)!r}, this run {key}={wanted.get(key)!r}; give another output_dir, "
                "or delete the file"
            )


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            # The last line may be cut off.
            if line.endswith(b"\n"):
                try:
                    content = json.loads(line)
                except ValueError:
                    raise _broken(path, number) from None
                if not isinstance(content, dict):
                    raise _broken(path, number)
                yield content


def _keep_lines(file, count: int) -> None:
    for _ in range(count):
        file.readline()
    file.truncate(file.tell())
    file.seek(0, os.SEEK_END)
