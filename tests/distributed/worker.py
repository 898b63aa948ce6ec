"""
One training run on recorded rollouts, started by a launcher in one or several processes; writes what must not depend
on their number.

Usage: worker.py RESULT_FILE JSON_OVERRIDES
"""

import json
import math
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import import_utils
from trl.trainer import utils


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
# None of these runs uses vLLM, and importing it takes longer than a run.
import_utils.is_vllm_available = lambda *args, **kwargs: False

import toy  # noqa: E402
from sharded import allow_fsdp_on_cpu, deepspeed_config, whole_parameters  # noqa: E402
from trl_amft import AMFTTrainer, StopOnSignal  # noqa: E402
from trl_amft.cli.leave import leave  # noqa: E402
from trl_amft.demonstrations import supervised_head  # noqa: E402


GLOBAL_BATCH, GENERATIONS, GLOBAL_DEMONSTRATIONS = 16, 4, 4


def same_for_all(prompts, completions, **kwargs):
    return [0.1] * len(completions)


def on_one_process(what):
    """The dense reward, except that the second process does something at the fifth step, and notes when."""

    def reward(prompts, completions, trainer_state, **kwargs):
        if trainer_state.global_step == 4 and PartialState().process_index == 1:
            Path(sys.argv[1]).with_name("failed").touch()
            what()
        return toy.dense_reward(prompts, completions)

    return reward


def no_judge():
    raise ZeroDivisionError("no judge")


REWARDS = {
    "dense": toy.dense_reward,
    "same for all": same_for_all,
    "raises on one": on_one_process(no_judge),
    "kills one": on_one_process(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "signals one": on_one_process(lambda: os.kill(os.getpid(), signal.SIGTERM)),
}


def recorded_rollouts(prompts, trainer):
    """Completions that depend on prompt, position in the group and step only, not on the process."""
    tokenizer = trainer.processing_class
    completions = [
        [
            tokenizer.convert_tokens_to_ids(chr(ord("0") + (sum(map(ord, prompt)) * 7 + index % GENERATIONS * k) % 10))
            for k in range(1, 2 + index % GENERATIONS)
        ]
        for index, prompt in enumerate(prompts)
    ]
    return {
        "prompt_ids": tokenizer(prompts)["input_ids"],
        "completion_ids": completions,
        "logprobs": [[0.0] * len(ids) for ids in completions],
    }


def rollouts_after_demonstrations(prompts, trainer):
    """As with a vLLM server: the demonstrations of the step run while rollouts are awaited."""
    assert trainer._segments.run_ahead() is None
    assert trainer._segments._share is not None
    return recorded_rollouts(prompts, trainer)


def partly_empty(take, kept):
    """Only the first share of every micro-batch, which is that of the first processes, has demonstrations."""

    def wrapped(count):
        rows = take(count)
        given = int(count * kept)
        return rows[:given] + [None] * (count - given)

    return wrapped


class CountCollectives(TrainerCallback):
    """Notes each collective of the last two steps by its name and the number of elements that it carries."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, **kwargs):
        self._profile = None
        if state.global_step < state.max_steps - 2:
            return
        self._profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True)
        self._profile.start()

    def on_step_end(self, args, state, control, **kwargs):
        if self._profile is None:
            return
        self._profile.stop()
        events = [event for event in self._profile.events() if event.name.startswith("c10d::")]
        self.steps.append([(event.name, elements(event.input_shapes)) for event in events])


def elements(shapes):
    """Largest number of elements among nested shapes."""
    if shapes and all(isinstance(size, int) for size in shapes):
        return math.prod(shapes)
    return max((elements(shape) for shape in shapes if isinstance(shape, (list, tuple))), default=1)


def main() -> None:
    result_file, overrides = Path(sys.argv[1]), json.loads(sys.argv[2])
    world, gpu = int(os.environ.get("WORLD_SIZE", "1")), overrides.pop("gpu", False)
    lora, stage = overrides.pop("lora", False), overrides.pop("zero_stage", 0)
    recorded, checkpoint = overrides.pop("recorded_rollouts", True), overrides.pop("resume", None)
    rollouts = rollouts_after_demonstrations if overrides.pop("ahead", False) else recorded_rollouts
    reward, kept = REWARDS[overrides.pop("reward", "dense")], overrides.pop("demonstrations_kept", 0.5)
    replayed, paired_every = overrides.pop("replay", False), overrides.pop("paired_every", 0)
    layers, counted = overrides.pop("layers", 2), overrides.pop("count_collectives", False)
    folder = result_file.parent / f"run-{world}"
    if checkpoint == "auto":
        checkpoint = get_last_checkpoint(folder) if folder.is_dir() else None
    if stage and (gpu or world > 1):
        overrides["deepspeed"] = deepspeed_config(stage, **overrides.pop("zero_options", {}))
    overrides.pop("zero_options", None)
    tiles = overrides.pop("tiles", False)
    if tiles:
        supervised_head.TILE = utils._CHUNKED_LOGPROB_CHUNK_SIZE = 64
    fsdp = overrides.pop("fsdp_options", None)
    if fsdp is not None and (gpu or world > 1):
        if not gpu:
            allow_fsdp_on_cpu()
        overrides |= {"fsdp": True, "fsdp_config": fsdp}
    peft_config = None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    settings = {"sft_warmup_steps": 2, "max_steps": 6, "meta_window": 1, "meta_normalization": "cosine", "mu_lr": 5.0}
    args = toy.config(
        folder,
        per_device_train_batch_size=GLOBAL_BATCH // world,
        num_generations=GENERATIONS,
        per_device_demonstration_batch_size=GLOBAL_DEMONSTRATIONS // world,
        gradient_accumulation_steps=2,
        max_completion_length=8,
        ddp_backend="gloo" if world > 1 else None,
        use_cpu=not gpu,
        **{**settings, **overrides},
    )
    model, tokenizer = toy.model(layers=layers)
    counter = CountCollectives()
    prompts, demonstrations = toy.prompt_set(128), toy.demonstration_set(lengths=True)
    if paired_every:
        prompts, demonstrations = toy.paired_set(paired_every, 128), None
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=reward,
        callbacks=[counter] if counted else None,
        args=args,
        train_dataset=prompts,
        processing_class=tokenizer,
        rollout_func=rollouts if recorded else None,
        peft_config=peft_config,
        demonstration_dataset=demonstrations,
        validation_dataset=toy.prompt_set(16),
    )
    if trainer.demonstrations is not None:
        trainer.demonstrations.take = partly_empty(trainer.demonstrations.take, kept)
    trainer.add_callback(StopOnSignal(trainer.accelerator))
    start = toy.parameters(trainer)
    weights, products = [], []

    class Watch(type(trainer)):
        replay = None

        def _mix(self, model, known):
            if replayed and self.replay is None:
                from zero_replay import ZeroReplay

                self.replay = ZeroReplay(self)
            loss = super()._mix(model, known)
            weights.append(self.mixing_weight)
            if hasattr(self.window, "history"):
                row = self.state.global_step % self.window.history
                products.append((self.window._products[row, 0].item(), self.window._norms[row, 0].item()))
            return loss

    trainer.__class__ = Watch
    trainer.train(resume_from_checkpoint=checkpoint)
    assert trainer.demonstrations is None or trainer._supervised._tiles == tiles
    if "deepspeed" in overrides:
        assert trainer.model_wrapped.zero_optimization_stage() == stage
    if "fsdp" in overrides:
        assert trainer.accelerator.is_fsdp2
        assert any(isinstance(parameter, DTensor) for parameter in trainer.model.parameters())
    everyone = [None] * world
    if world > 1:
        torch.distributed.all_gather_object(everyone, weights)
        assert all(seen == weights for seen in everyone), f"the weight differs between processes: {everyone}"
    end = whole_parameters(trainer)
    if trainer.is_world_process_zero():
        logs = [log for log in trainer.state.log_history if "amft/mu" in log]
        result = {
            "weights": weights,
            "products": products,
            "start": start,
            "end": end,
            "rl_loss": [log["amft/rl_loss"] for log in logs if "amft/rl_loss" in log],
            "sft_loss": [log["amft/sft_loss"] for log in logs if "amft/sft_loss" in log],
            "tokens": [log["demonstrations/tokens"] for log in logs if "demonstrations/tokens" in log],
            "entropy_gap": [log["amft/entropy_gap"] for log in logs if "amft/entropy_gap" in log],
            "loss": [log["loss"] for log in logs],
            "mu": [log["amft/mu"] for log in logs],
            "collectives": counter.steps,
            "replayed": trainer.replay.values if trainer.replay is not None else [],
        }
        torch.save(result, result_file)
    # Leaving while another process is still in a collective would abort that one.
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
    leave(0)
