"""
What a learned weight costs against the number of processes, each with the same rollouts and demonstrations.

A step with a learned weight over one with a fixed weight, in processor seconds of all processes together: a machine
with fewer cores than processes shows no speed-up, but every operation that is added with the processes counts. The
clock is recorded as well.

    python benchmarks/process_scaling.py
    python benchmarks/process_scaling.py --modes zero3 --processes 2 4
"""

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from common import append_result, print_table
from mixed_step import StepTimer, build_trainer, quiet_folder
from sharded_memory import launch, sharding


MODES = ("ddp", "zero3")
FORMS = ("fixed", "amft")
WARM_UP = 2


def seconds_of_step(mode: str, form: str, options: SimpleNamespace, world: int) -> tuple[float, float]:
    """Processor seconds, summed over processes, and seconds of the clock of a median step."""
    timer = StepTimer(skip=WARM_UP)
    backend = {"ddp_backend": "gloo"} if world > 1 else {}
    with quiet_folder() as folder:
        trainer = build_trainer(form, folder, options, callbacks=[timer], use_cpu=True, **backend, **sharding(mode))
        trainer.train()
        own = torch.tensor(statistics.median(timer.cpu), dtype=torch.float64)
        return trainer.accelerator.reduce(own, reduction="sum").item(), statistics.median(timer.wall)


def work(mode: str, options: argparse.Namespace) -> None:
    """One process of a run: the forms alternate."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    sizes = SimpleNamespace(
        hidden_size=options.hidden_size,
        layers=options.layers,
        batch=options.batch,
        length=options.length,
        steps=WARM_UP + options.steps,
    )
    found: dict[str, list] = defaultdict(list)
    for number in range(options.rounds):
        for form in FORMS if number % 2 else FORMS[::-1]:
            found[form].append(seconds_of_step(mode, form, sizes, world))
    if int(os.environ.get("RANK", "0")) == 0:
        Path(options.worker).write_text(json.dumps(found))


def run(mode: str, processes: int, arguments: list[str]) -> dict:
    """All rounds of one way of distributing."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "seconds.json"
        launch(__file__, [*arguments, "--modes", mode, "--worker", str(output)], processes, mode)
        found = json.loads(output.read_text())
    cpu = {form: [processor for processor, _ in found[form]] for form in FORMS}
    wall = {form: [clock for _, clock in found[form]] for form in FORMS}
    ratios = [learned / fixed for learned, fixed in zip(cpu["amft"], cpu["fixed"], strict=True)]
    return {
        "mode": mode,
        "processes": processes,
        "processor_seconds": {form: statistics.median(values) / processes for form, values in cpu.items()},
        "wall_seconds": {form: statistics.median(values) for form, values in wall.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--hidden-size", type=int, default=192, help="width of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16, help="rollouts, and demonstrations, of a process and step")
    parser.add_argument("--length", type=int, default=32, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=4, help="timed steps per form and round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        work(options.modes[0], options)
        return
    settings = {
        name: getattr(options, name) for name in ("hidden_size", "layers", "batch", "length", "steps", "rounds")
    }
    arguments = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    # DeepSpeed on one process keeps nothing apart.
    cases = [(mode, n) for mode in options.modes for n in options.processes if n > 1 or mode == "ddp"]
    rows = [run(mode, processes, arguments) for mode, processes in cases]
    print_table(
        "a step with a learned weight over one with a fixed weight",
        ("sharding", "processes", "fixed, processor s each", "learned", "ratio", "least", "largest"),
        [
            (
                row["mode"],
                str(row["processes"]),
                *(f"{row['processor_seconds'][form]:.3f}" for form in FORMS),
                f"{row['ratio']:.3f}",
                f"{min(row['ratios']):.3f}",
                f"{max(row['ratios']):.3f}",
            )
            for row in rows
        ],
    )
    print(append_result("process_scaling", {**settings, "rows": rows}))


if __name__ == "__main__":
    main()
