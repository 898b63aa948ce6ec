"""
Gradient-sized buffers against count sketches for the windowed meta-gradient: error, memory and time.

Both forms see the same stream of gradients of a real model (the gradient of a random batch, with noise that is
redrawn every step): the dense form keeps all 2W − 1 sensitivities at full size and is exact; the sketch keeps k
numbers of each. The error is that of the cosine of the windowed estimate.

    python benchmarks/estimator_forms.py
"""

import argparse
import statistics
import time

import torch
from common import append_result
from rich.console import Console
from rich.table import Table

from trl_amft.gradient_sketch import GradientSketch
from trl_amft.meta_window import MetaGradientWindow
from trl_amft.tiny_model import build_tiny_model


def gradients(model, count: int, seed: int) -> list[torch.Tensor]:
    """Gradients of the token loss on random batches: structured as real ones are, with a common direction."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randint(20, 80, (1, 32), generator=generator).expand(4, -1)
    result = []
    for _ in range(count):
        noise = torch.randint(20, 80, (4, 32), generator=generator)
        ids = torch.where(torch.rand(4, 32, generator=generator) < 0.5, shared, noise)
        loss = model(input_ids=ids, labels=ids).loss
        grads = torch.autograd.grad(loss, list(model.parameters()))
        result.append(torch.cat([g.flatten() for g in grads]))
    return result


def run(width: int | None, vectors, utilities, window: int, seed: int) -> tuple[float, float]:
    """Cosine of the last windowed estimate, and seconds per step for sketching and pairing."""
    sketch = GradientSketch(vectors[0].numel(), seed=seed, width=width or vectors[0].numel())
    history = MetaGradientWindow(window)
    start = time.perf_counter()
    for step, (q, g) in enumerate(zip(vectors, utilities, strict=True)):
        parts = []
        for vector in (g, q):
            part = sketch.new()
            sketch.add_(part, 0, vector)
            parts.append(part)
        estimate = history.add_utility(step, parts[0], g.norm().item())
        history.add_sensitivity(step, parts[1], q.norm().item())
    return estimate.cosine, (time.perf_counter() - start) / len(vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = build_tiny_model(hidden_size=args.hidden_size, num_hidden_layers=args.layers)
    steps = 2 * args.window
    vectors, utilities = gradients(model, steps, seed=1), gradients(model, steps, seed=1)[::-1]
    size = vectors[0].numel()

    exact, dense_seconds = run(None, vectors, utilities, args.window, seed=0)
    rows = [
        {
            "form": "dense",
            "k": size,
            "megabytes": (steps - 1) * size * 4 / 1e6,
            "error": 0.0,
            "ms": dense_seconds * 1e3,
        }
    ]
    for width in (1009, 10_007, 100_003):
        runs = [run(width, vectors, utilities, args.window, seed) for seed in range(args.seeds)]
        error = statistics.fmean((cosine - exact) ** 2 for cosine, _ in runs) ** 0.5
        seconds = statistics.median(seconds for _, seconds in runs)
        rows.append(
            {
                "form": "sketch",
                "k": width,
                "megabytes": (steps - 1) * width * 4 / 1e6,
                "error": error,
                "ms": seconds * 1e3,
            }
        )
    table = Table(title=f"{size:,} parameters, window {args.window}, cosine of the estimate {exact:.4f}")
    for column in ("form", "k", "history MB", "rms error of the cosine", "ms per step"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["form"], f"{row['k']:,}", f"{row['megabytes']:.1f}", f"{row['error']:.1e}", f"{row['ms']:.1f}"
        )
    Console().print(table)
    result = {"parameters": size, "window": args.window, "cosine": exact, "rows": rows}
    print(append_result("estimator_forms", result))


if __name__ == "__main__":
    main()
