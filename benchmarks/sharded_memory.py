"""
Peak memory of a step by the way of sharding: GRPO, a fixed and a learned weight, on two processes of a CPU.

GRPO accumulates over two micro-batches, so that it also runs a backward pass while a gradient is there.
Each is a run of its own. The peak is that of one late step on the first process, from the allocator's own record as in
`memory.py`, above what was there before the step; beside it is the difference to GRPO in units of the gradient that
a process holds.

    python benchmarks/sharded_memory.py
    python benchmarks/sharded_memory.py --modes zero3 --forms grpo amft
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from common import append_result, print_table
from memory import RecordedStep, allocations
from mixed_step import build_trainer, quiet_folder
from torch.distributed.elastic.utils.distributed import get_free_port


ROOT = Path(__file__).parents[1]
PROCESSES = 2
MODES = ("ddp", "zero2", "zero3", "fsdp2")
FORMS = ("grpo", "fixed", "amft")


def sharding(mode: str) -> dict:
    """Arguments of the trainer for a way of sharding."""
    if mode.startswith("zero"):
        zero = {"stage": int(mode[4]), "reduce_bucket_size": 500_000, "stage3_param_persistence_threshold": 0}
        auto = dict.fromkeys(
            ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"),
            "auto",
        )
        return {"deepspeed": {**auto, "zero_optimization": zero}}
    if mode == "fsdp2":
        sys.path.append(str(ROOT / "tests"))
        from sharded import allow_fsdp_on_cpu

        allow_fsdp_on_cpu()
        return {
            "fsdp": True,
            "fsdp_config": {"transformer_layer_cls_to_wrap": "Qwen2DecoderLayer"},
        }
    return {}


def work(mode: str, form: str, options: SimpleNamespace, output: str) -> None:
    """One process of a run."""
    torch.set_num_threads(1)
    step = RecordedStep(4)
    passes = {"gradient_accumulation_steps": 2} if form == "grpo" else {}
    with quiet_folder() as folder:
        trainer = build_trainer(
            form, folder, options, callbacks=[step], ddp_backend="gloo", use_cpu=True, **passes, **sharding(mode)
        )
        trainer.train()
    if trainer.is_world_process_zero():
        peak, _ = allocations(step.record)
        total = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters() if p.requires_grad)
        shard = total if mode == "ddp" else total / PROCESSES
        Path(output).write_text(json.dumps({"parameters": total, "shard_mb": 4e-6 * shard, "peak_mb": 1e-6 * peak}))
    trainer.accelerator.end_training()


def launch(script: str, arguments: list[str], processes: int, mode: str) -> None:
    """Run a script in several processes of the CPU; what it says is shown only if it fails."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MASTER_PORT": str(get_free_port()),
    }
    environment |= {"DS_ACCELERATOR": "cpu"} if mode.startswith("zero") else {"ACCELERATE_USE_CPU": "true"}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, script, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{mode}, {' '.join(arguments)}: {done.stderr[-3000:]}")


def run(mode: str, form: str, options: argparse.Namespace) -> dict:
    """The peak of one run."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "peak.json"
        arguments = ["--modes", mode, "--forms", form, "--hidden-size", str(options.hidden_size)]
        arguments += ["--layers", str(options.layers), "--length", str(options.length), "--worker", str(output)]
        launch(__file__, arguments, PROCESSES, mode)
        return {"mode": mode, "form": form, **json.loads(output.read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--hidden-size", type=int, default=512, help="width of the model")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument(
        "--length", type=int, default=8, help="tokens per completion, 8 completions a process and step"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        settings = SimpleNamespace(
            hidden_size=options.hidden_size, layers=options.layers, batch=8, length=options.length, steps=5
        )
        work(options.modes[0], options.forms[0], settings, options.worker)
        return
    rows = [run(mode, form, options) for mode in options.modes for form in options.forms]
    leanest = {row["mode"]: row["peak_mb"] for row in rows if row["form"] == "grpo"}
    for row in rows:
        row["over_grpo_in_shards"] = (row["peak_mb"] - leanest.get(row["mode"], float("nan"))) / row["shard_mb"]
    print_table(
        f"one optimizer step, {rows[0]['parameters'] / 1e6:.1f} M parameters, {PROCESSES} processes",
        ("sharding", "form", "gradient of a process, MB", "peak, MB", "over GRPO, in gradients"),
        [
            (
                row["mode"],
                row["form"],
                f"{row['shard_mb']:.1f}",
                f"{row['peak_mb']:.1f}",
                f"{row['over_grpo_in_shards']:.2f}",
            )
            for row in rows
        ],
    )
    print(append_result("sharded_memory", {**vars(options), "processes": PROCESSES, "rows": rows}))


if __name__ == "__main__":
    main()
