"""
What the controller costs against the number of parameters: what a learned weight adds to a step, without the
model.

Gradients are random and lie in tensors of the shape of a decoder's; the work does not depend on their values. The cost
does not depend on the tokens of a step, so its share falls with them: the last columns relate it to a step of
6 · parameters · tokens operations at the matrix rate that is measured here first, in float32 on a CPU and in bfloat16
on a GPU.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --parameters 1e9      # 20 GB
"""

import argparse
import statistics
from collections import defaultdict

import torch
from accelerate import Accelerator
from common import DEVICE, append_result, matrix_rate, print_table, seconds
from torch import nn

from trl_amft.gradient_sketch import GradientSketch
from trl_amft.meta_window import MetaGradientWindow
from trl_amft.sharding import ReplicatedGradients
from trl_amft.two_segment_step import TwoSegmentStep


WARM_UP = 2


class Weights(nn.Module):
    """About `parameters` weights, in twelve times as many square matrices as fit a model of that size."""

    def __init__(self, parameters: int, dtype: torch.dtype, layers: int = 6):
        super().__init__()
        width = max(round((parameters / (12 * layers)) ** 0.5), 8)
        shapes = [(width, width)] * 4 + [(4 * width, width)] * 2
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(shape, device=DEVICE, dtype=dtype)) for _ in range(layers) for shape in shapes
        )


def controller(parameters: int, steps: int, dtype: torch.dtype) -> dict:
    """Median milliseconds of each part of the controller's work per step."""
    model = Weights(parameters, dtype)
    accelerator = Accelerator(cpu=DEVICE.type == "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    for parameter in model.parameters():
        parameter.grad = 1e-3 * torch.randn_like(parameter)
    optimizer.step()
    shards = ReplicatedGradients(model, optimizer, accelerator, max_grad_norm=1.0)
    algebra = TwoSegmentStep(shards, GradientSketch(shards.num_elements, device=shards.device), "adamw")
    window = MetaGradientWindow(10)
    spent = defaultdict(list)

    def timed(part: str, call):
        start = seconds()
        result = call()
        spent[part].append(1e3 * (seconds() - start))
        return result

    for step in range(WARM_UP + steps):
        sketch, norm = timed("sketch of g_RL", algebra.sketch_gradient)
        timed("window", lambda: window.add_utility(step, sketch, norm))  # noqa: B023
        timed("copy of g_RL", algebra.store_rl_gradient)
        for parameter in model.parameters():
            parameter.grad.normal_(std=1e-3)
        products = timed("products", algebra.products)
        sensitivity = timed("mix", lambda: algebra.combine(0.3, products, 1e-4))  # noqa: B023
        window.add_sensitivity(step, *sensitivity)
    parts = {part: statistics.median(values[WARM_UP:]) for part, values in spent.items()}
    return {"parameters": shards.num_elements, "parts_ms": parts, "ms": sum(parts.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, nargs="+", default=[1e6, 3e6, 1e7, 3e7, 1e8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 32_768], help="rollouts and demonstrations")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of weights and optimizer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rate = matrix_rate()
    dtype = getattr(torch, options.dtype)
    results = [controller(int(parameters), options.steps, dtype) for parameters in options.parameters]
    for row in results:
        row["share"] = {n: row["ms"] / (6e3 * row["parameters"] * n / rate) for n in options.tokens}
    columns = ("parameters", *results[0]["parts_ms"], "together, ms", "ns per parameter")
    columns += tuple(f"% of {n:,} tokens" for n in options.tokens)
    rows = [
        (
            f"{row['parameters']:,}",
            *(f"{ms:.1f}" for ms in row["parts_ms"].values()),
            f"{row['ms']:.1f}",
            f"{1e6 * row['ms'] / row['parameters']:.1f}",
            *(f"{100 * share:.2f}" for share in row["share"].values()),
        )
        for row in results
    ]
    print_table(f"controller; matrix rate {rate / 1e9:.0f} GFLOP/s", columns, rows)
    print(append_result("scaling", {**vars(options), "matrix_rate": rate, "rows": results}))


if __name__ == "__main__":
    main()
