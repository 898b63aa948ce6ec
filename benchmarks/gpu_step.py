"""
A step on a GPU at the shape of a real model: seconds and peak memory of each form of `mixed_step.FORMS`.

Random weights of the shapes of Qwen2.5, its vocabulary, bf16, gradient checkpointing, recorded rollouts. Short runs of
the forms alternate as in `step_overhead.py`; seconds are those of the clock after the GPU is done. The peak is the
most that PyTorch's allocator gave out in the timed steps, weights and optimizer included. The share of the matrix rate
counts 8 operations per parameter and token, of which the second forward pass of checkpointing is 2, and 6 with LoRA,
whose frozen weights need no gradient; the rate is that of products of two matrices of 8,192 in bfloat16, timed first.

    python benchmarks/gpu_step.py --shape 0.5B
    python benchmarks/gpu_step.py --shape 7B --dtype bfloat16 --lora 64 --passes 2 --rounds 2
"""

import argparse
import gc
import statistics
from collections import defaultdict

import torch
from common import append_result, matrix_rate, print_table
from mixed_step import FORMS, StepTimer, build_trainer, quiet_folder, ratios_by_round
from peft import LoraConfig
from step_parts import StepParts
from transformers import Qwen2Config, Qwen2ForCausalLM


WARM_UP = 2

# Width, layers, heads, heads of keys, width of the MLP, vocabulary, output matrix shared: Qwen2.5's configurations.
SHAPES = {
    "0.5B": (896, 24, 14, 2, 4864, 151_936, True),
    "1.5B": (1536, 28, 12, 2, 8960, 151_936, True),
    "3B": (2048, 36, 16, 2, 11_008, 151_936, True),
    "7B": (3584, 28, 28, 4, 18_944, 152_064, False),
}

RATIOS = (
    ("learned / leanest fixed", ("amft",), ("lean_fixed",)),
    ("leanest fixed / (GRPO step + SFT step)", ("lean_fixed",), ("grpo", "sft")),
    ("learned / (GRPO step + SFT step)", ("amft",), ("grpo", "sft")),
)


def random_model(shape: str, dtype: torch.dtype) -> Qwen2ForCausalLM:
    """A model of a shape of [`SHAPES`], made on the GPU."""
    width, layers, heads, key_heads, mlp, vocabulary, tied = SHAPES[shape]
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=tied,
        dtype=dtype,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        return Qwen2ForCausalLM(config).to(dtype)


def is_multiplied(name: str, shape: str) -> bool:
    return SHAPES[shape][-1] or "embed_tokens" not in name


class GpuTimer(StepTimer):
    """Waits for the GPU at both ends of a step, and knows the peak over the steps that count."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.skip:
            torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        super().on_step_begin(args, state, control, **kwargs)

    def on_step_end(self, args, state, control, **kwargs):
        torch.cuda.synchronize()
        super().on_step_end(args, state, control, **kwargs)
        self.peak = torch.cuda.max_memory_allocated()


def run(form: str, options: argparse.Namespace, parted: bool = False) -> dict:
    """One short run of a form; of a learned weight also where its seconds go, if `parted`."""
    timer, parts = GpuTimer(skip=WARM_UP), StepParts(skip=WARM_UP)
    settings = argparse.Namespace(
        batch=options.micro_batch, length=options.length, steps=WARM_UP + options.steps, hidden_size=32, layers=1
    )
    overrides = {"peft_config": LoraConfig(r=options.lora, target_modules="all-linear")} if options.lora else {}
    with quiet_folder() as folder:
        trainer = build_trainer(
            form,
            folder,
            settings,
            callbacks=[timer, parts] if parted else [timer],
            model=random_model(options.shape, getattr(torch, options.dtype)),
            bf16=True,
            gradient_checkpointing=True,
            gradient_accumulation_steps=options.passes,
            **overrides,
        )
        if parted:
            parts.watch(trainer)
        trainer.train()
    model = trainer.model
    found = {
        "seconds": statistics.median(timer.wall),
        "peak_gb": timer.peak / 1e9,
        "parameters": sum(p.numel() for p in model.parameters()),
        # An embedding of its own is looked up, not multiplied.
        "multiplied": sum(p.numel() for name, p in model.named_parameters() if is_multiplied(name, options.shape)),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    if parted:
        found["parts_ms"] = parts.milliseconds()
    del trainer, model, parts
    gc.collect()
    torch.cuda.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="0.5B")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of weights and optimizer")
    parser.add_argument("--lora", type=int, default=0, help="rank of an adapter on all linear layers; 0 trains all")
    parser.add_argument("--micro-batch", type=int, default=16, help="rollouts, and demonstrations, per pass")
    parser.add_argument("--passes", type=int, default=4, help="passes per segment and step")
    parser.add_argument("--length", type=int, default=512, help="tokens per completion")
    parser.add_argument("--steps", type=int, default=3, help="timed steps per run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", nargs="+", default=["amft", "fixed", "lean_fixed", "grpo", "sft"], choices=FORMS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: step_overhead.py measures the same on a CPU")
    rate = matrix_rate()
    runs = defaultdict(list)
    for number in range(options.rounds):
        for form in options.forms if number % 2 else options.forms[::-1]:
            runs[form].append(run(form, options))
            print(number, form, runs[form][-1], flush=True)
    parts_ms = run("amft", options, parted=True)["parts_ms"]
    seconds = {form: [row["seconds"] for row in rows] for form, rows in runs.items()}
    ratios = {
        name: {"median": statistics.median(values), "values": values}
        for name, values in ratios_by_round(RATIOS, seconds).items()
    }
    tokens = options.micro_batch * options.passes * (options.length + 13)
    first = runs[options.forms[0]][0]
    forms = {}
    for form in options.forms:
        operations = (6 if options.lora else 8) * (1 if form in ("grpo", "sft") else 2)
        median = statistics.median(seconds[form])
        forms[form] = {
            "seconds": median,
            "rounds": seconds[form],
            "peak_gb": max(row["peak_gb"] for row in runs[form]),
            "share_of_matrix_rate": operations * first["multiplied"] * tokens / (median * rate),
        }
    print_table(
        f"{first['parameters'] / 1e9:.2f} G parameters, {first['trained'] / 1e9:.3f} G trained, weights "
        f"{options.dtype}, {tokens:,} tokens a segment, matrix rate {rate / 1e12:.0f} TFLOP/s",
        ("form", "s a step", "peak GB", "% of the matrix rate"),
        [
            (form, f"{f['seconds']:.3f}", f"{f['peak_gb']:.1f}", f"{100 * f['share_of_matrix_rate']:.1f}")
            for form, f in forms.items()
        ],
    )
    print_table(
        f"ratios of seconds, {options.rounds} rounds",
        ("ratio", "median", "least and largest"),
        [(n, f"{r['median']:.3f}", f"{min(r['values']):.3f} to {max(r['values']):.3f}") for n, r in ratios.items()],
    )
    rows = [(part, f"{ms:.1f}", f"{100 * ms / parts_ms['whole step']:.1f}") for part, ms in parts_ms.items()]
    print_table("a step with a learned weight, the GPU waited for at each boundary", ("part", "ms", "%"), rows)
    result = {
        **vars(options),
        "tokens": tokens,
        "parts_ms": parts_ms,
        "matrix_rate": rate,
        "forms": forms,
        "ratios": ratios,
    }
    print(append_result("gpu_step", result | {key: first[key] for key in ("parameters", "trained")}))


if __name__ == "__main__":
    main()
