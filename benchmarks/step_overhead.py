"""
What a mixed step costs: seconds of an optimizer step in each form of `mixed_step.FORMS`, and where they go.

All forms run the same model, batch and recorded rollouts. Short runs of the forms alternate; each round gives one
value of every ratio. Seconds are those of the processor with one thread, which other work on the machine disturbs less
than those of the clock; both are recorded. Beside them are the pages that a step takes from the system: a step that
frees more than it keeps takes them again, unless glibc is told to keep them.

    python benchmarks/step_overhead.py
    python benchmarks/step_overhead.py --keep-freed-memory
    python benchmarks/step_overhead.py --hidden-size 96 --layers 3 --length 16    # quickstart's size
"""

import argparse
import statistics
from collections import defaultdict

import torch
from common import append_result, keep_freed_memory, print_table
from mixed_step import FORMS, StepTimer, build_trainer, quiet_folder, ratios_by_round
from step_parts import StepParts


WARM_UP = 2

# Ratio, numerator, denominator: sums of forms.
RATIOS = (
    ("amft / lean fixed", ("amft",), ("lean_fixed",)),
    ("amft / fixed", ("amft",), ("fixed",)),
    ("validation every 5 / lean fixed", ("validation_5",), ("lean_fixed",)),
    ("validation every 20 / lean fixed", ("validation_20",), ("lean_fixed",)),
    ("lean fixed / (grpo + sft)", ("lean_fixed",), ("grpo", "sft")),
    ("amft / (grpo + sft)", ("amft",), ("grpo", "sft")),
)


def steps_of(form: str, options: argparse.Namespace) -> StepTimer:
    """One short run of a form."""
    timer = StepTimer(skip=WARM_UP)
    # A mean over whole intervals of validation, so that each run has its share of them.
    interval = int(form.split("_")[1]) if form.startswith("validation") else 1
    timed = -(-options.steps // interval) * interval
    settings = argparse.Namespace(**{**vars(options), "steps": WARM_UP + timed})
    with quiet_folder() as folder:
        build_trainer(form, folder, settings, callbacks=[timer]).train()
    return timer


def seconds(form: str, values: list[float]) -> float:
    return statistics.fmean(values) if form.startswith("validation") else statistics.median(values)


def interval_of_median(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median, by order statistics (normal approximation of the ranks)."""
    ordered, count = sorted(values), len(values)
    spread = 0.98 * count**0.5
    low, high = int(max(count / 2 - spread, 0)), int(min(count / 2 + spread, count - 1))
    return ordered[low], ordered[high]


def parts_of_step(options: argparse.Namespace) -> dict[str, float]:
    """Processor milliseconds of each part of a step with a learned weight, medians over one run."""
    settings = argparse.Namespace(**{**vars(options), "steps": WARM_UP + options.steps})
    parts = StepParts(skip=WARM_UP)
    with quiet_folder() as folder:
        parts.watch(build_trainer("amft", folder, settings, callbacks=[parts])).train()
    return parts.milliseconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=192, help="width of the model")
    parser.add_argument("--layers", type=int, default=4, help="layers of the model")
    parser.add_argument("--batch", type=int, default=64, help="rollouts, and demonstrations, per step")
    parser.add_argument("--length", type=int, default=32, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per run, rounded up to whole intervals")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--keep-freed-memory", action="store_true", help="as a GPU's allocator does")
    parser.add_argument("--generate", action="store_true", help="generate instead of recorded rollouts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.keep_freed_memory:
        keep_freed_memory()
    faults: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    wall: dict[str, list[float]] = defaultdict(list)
    for number in range(options.rounds):
        for form in options.forms if number % 2 else options.forms[::-1]:
            timer = steps_of(form, options)
            cpu[form].append(seconds(form, timer.cpu))
            wall[form].append(seconds(form, timer.wall))
            faults[form].append(seconds(form, timer.faults))
    ratios = {
        name: {"median": statistics.median(values), "interval": interval_of_median(values), "values": values}
        for name, values in ratios_by_round(RATIOS, cpu).items()
    }
    parts = parts_of_step(options)
    from trl_amft.tiny_model import build_tiny_model

    model, _ = build_tiny_model(hidden_size=options.hidden_size, num_hidden_layers=options.layers)
    size = sum(p.numel() for p in model.parameters())
    title = f"{size:,} parameters, {options.batch} rollouts and demonstrations of {options.length} tokens a step"
    print_table(
        title,
        ("form", "processor s", "wall s", "pages from the system"),
        [
            (
                form,
                f"{statistics.median(cpu[form]):.3f}",
                f"{statistics.median(wall[form]):.3f}",
                f"{statistics.median(faults[form]):,.0f}",
            )
            for form in cpu
        ],
    )
    rows = [(name, f"{r['median']:.3f}", "{:.3f} to {:.3f}".format(*r["interval"])) for name, r in ratios.items()]
    print_table(f"ratios of processor seconds, {options.rounds} rounds", ("ratio", "median", "95 % interval"), rows)
    rows = [(part, f"{ms:.1f}", f"{100 * ms / parts['whole step']:.1f}") for part, ms in parts.items()]
    print_table("a step with a learned weight", ("part", "processor ms", "%"), rows)
    result = {
        **vars(options),
        "parameters": size,
        "ratios": ratios,
        "median_processor_seconds": {form: statistics.median(values) for form, values in cpu.items()},
        "median_wall_seconds": {form: statistics.median(values) for form, values in wall.items()},
        "median_pages": {form: statistics.median(values) for form, values in faults.items()},
        "parts_ms": parts,
    }
    print(append_result("step_overhead", result))


if __name__ == "__main__":
    main()
