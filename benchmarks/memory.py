"""
Peak memory: of L_SFT with a large vocabulary, and of a whole step in each form.

From the allocator's own record of every allocation and release (`torch.profiler`), above what was there before. The
first table is one forward and backward pass of a small decoder with the vocabulary of Qwen2.5: in float32 on a CPU,
in bfloat16 on a GPU. The second is one late optimizer step on recorded rollouts, in units of the gradient; only on a
CPU, because `gpu_step.py` has that of a GPU.

    python benchmarks/memory.py
    python benchmarks/memory.py --full-tokens 2048 --tokens 8192    # what a machine with 24 GB can do
"""

import argparse

import torch
from common import DEVICE, append_result, print_table, seconds
from mixed_step import StepTimer, build_trainer, quiet_folder
from peft import LoraConfig
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl.trainer.utils import add_fused_lm_head

from trl_amft.demonstrations.supervised_head import add_supervised_head
from trl_amft.losses import sft_loss, token_loss


def allocations(record: profile) -> tuple[int, int]:
    """Bytes of the peak above the start, and of the largest single allocation."""
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    if DEVICE.type == "cuda":
        events = [event for event in events if event.device_type() == DeviceType.CUDA]
    live = peak = largest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak, largest = max(peak, live), max(largest, event.nbytes())
    return peak, largest


def recorded() -> profile:
    return profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)


def sft_pass(tokens: int, vocabulary: int, hidden: int, tiles: bool) -> dict:
    """One forward and backward pass of L_SFT."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    with DEVICE:
        model = Qwen2ForCausalLM(config).to(torch.bfloat16 if DEVICE.type == "cuda" else torch.float32)
    add_fused_lm_head(model, temperature=0.7)
    assert add_supervised_head(model, cast_lm_head_to_fp32=False, entropy=False)
    ids = torch.randint(vocabulary, (tokens // 1024, 1024), device=DEVICE)
    start = seconds()
    with recorded() as record:
        if tiles:
            found = model(input_ids=ids, labels=ids, supervised_head=True)
            loss = token_loss(found.log_probs, found.is_top1, found.label_mask, lambda: found.entropy).loss
        else:
            loss = sft_loss(model(input_ids=ids, use_cache=False).logits, ids).loss
        value = loss.item()
        loss.backward()
    peak, largest = allocations(record)
    return {
        "form": "tiles" if tiles else "full logits",
        "tokens": tokens,
        "peak_gb": peak / 1e9,
        "largest_gb": largest / 1e9,
        "logits_gb": 4e-9 * tokens * vocabulary,
        "seconds": seconds() - start,
        "loss": value / ids.numel(),
    }


class RecordedStep(StepTimer):
    """The allocations of one step."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.record = recorded()
            self.record.start()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step + 1:
            self.record.stop()


def step_peak(form: str, lora: bool, options: argparse.Namespace) -> dict:
    """The peak of one step of a form, after the optimizer and the window of sensitivities have their buffers."""
    settings = argparse.Namespace(
        hidden_size=options.hidden_size, layers=options.layers, batch=8, length=options.length, steps=5
    )
    step = RecordedStep(4)
    arguments = {"peft_config": LoraConfig(r=64, target_modules="all-linear")} if lora else {}
    with quiet_folder() as folder:
        trainer = build_trainer(form, folder, settings, callbacks=[step], **arguments)
        trainer.train()
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    peak, largest = allocations(step.record)
    sketches = getattr(getattr(trainer, "window", None), "_sketches", None)
    return {
        "model": "LoRA" if lora else "full",
        "form": form,
        "trained": trained,
        "gradient_mb": 4e-6 * trained,
        "peak_mb": 1e-6 * peak,
        "sketches_mb": 0.0 if sketches is None else 4e-6 * sketches.numel(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--head-width", type=int, default=128, help="width of the decoder of the first table")
    parser.add_argument("--tokens", type=int, nargs="*", default=[2048, 8192], help="tokens with tiles")
    parser.add_argument("--full-tokens", type=int, nargs="*", default=[1024, 2048], help="tokens with full logits")
    parser.add_argument("--hidden-size", type=int, default=512, help="width of the model of whole steps")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--length", type=int, default=8, help="tokens per completion, 8 completions a step")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [(n, False) for n in options.full_tokens] + [(n, True) for n in options.tokens]
    if DEVICE.type == "cuda":
        for tiles in (False, True):  # kernels are made in the first pass
            sft_pass(1024, options.vocabulary, options.head_width, tiles)
    passes = [sft_pass(n, options.vocabulary, options.head_width, tiles) for n, tiles in sizes]
    columns = ("L_SFT", "tokens", "peak GB", "largest allocation GB", "tokens x vocabulary GB", "s")
    keys = ("peak_gb", "largest_gb", "logits_gb", "seconds")
    rows = [(row["form"], f"{row['tokens']:,}", *(f"{row[key]:.2f}" for key in keys)) for row in passes]
    print_table(f"forward and backward pass, vocabulary {options.vocabulary:,}", columns, rows)

    if DEVICE.type == "cuda":
        print(append_result("memory", {**vars(options), "passes": passes}))
        return
    steps = [step_peak(form, lora, options) for lora in (False, True) for form in ("lean_fixed", "fixed", "amft")]
    base = {row["model"]: row["peak_mb"] for row in steps if row["form"] == "lean_fixed"}
    for row in steps:
        row["over_lean_fixed_in_gradients"] = (row["peak_mb"] - base[row["model"]]) / row["gradient_mb"]
    columns = ("model", "form", "gradient MB", "peak of the step MB", "over lean fixed, in gradients", "sketches MB")
    keys = ("gradient_mb", "peak_mb")
    rows = [
        (
            row["model"],
            row["form"],
            *(f"{row[key]:.1f}" for key in keys),
            f"{row['over_lean_fixed_in_gradients']:.2f}",
            f"{row['sketches_mb']:.0f}",
        )
        for row in steps
    ]
    print_table("one optimizer step; sketches stay between steps and come on top", columns, rows)
    print(append_result("memory", {**vars(options), "passes": passes, "steps": steps}))


if __name__ == "__main__":
    main()
