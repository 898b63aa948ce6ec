"""
What a learned weight adds to a step, counted instead of timed: passes, reads by the host, buffers as large as the
gradient.

On a GPU every read by the host waits for the device. A CPU does not wait, but the reads are the same calls.
"""

from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import toy
from trl_amft import AMFTConfig, AMFTTrainer, two_segment_step
from trl_amft.gradient_sketch import GradientSketch
from trl_amft.sharding import ReplicatedGradients
from trl_amft.two_segment_step import TwoSegmentStep


class FreshTensors(TorchDispatchMode):
    """Numbers of elements of the tensors that operations allocate, and how often a single value is read."""

    def __init__(self):
        super().__init__()
        self.elements: list[int] = []
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        if isinstance(result, torch.Tensor) and all(value.alias_info is None for value in func._schema.returns):
            self.elements.append(result.numel())
        return result


class CountStep(TrainerCallback):
    """Counts the operations of one late step."""

    def __init__(self, step: int):
        self.step = step
        self.counts = Counter()

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            self._hook = model.register_forward_hook(lambda *_: self.counts.update(["forward"]))
            self._saved = torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.backward
            for name in ("tolist", "cpu", "backward"):
                setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))
            self._mode = FreshTensors()
            self._mode.__enter__()

    def _counted(self, name, method):
        def call(tensor, *args, **kwargs):
            # Lists of token ids are read by the rewards and by the log, with and without demonstrations.
            if name == "backward" or tensor.is_floating_point():
                self.counts[name] += 1
            return method(tensor, *args, **kwargs)

        return call

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step + 1:
            self._mode.__exit__(None, None, None)
            torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.backward = self._saved
            self._hook.remove()
            self.counts["item"] = self._mode.reads


def operations(tmp_path, trainer_class, config_class, layers, **overrides) -> Counter:
    model, tokenizer = toy.model(layers=layers)
    counter = CountStep(4)
    demonstrations = {} if trainer_class is GRPOTrainer else {"demonstration_dataset": toy.demonstration_set()}
    settings = {"max_steps": 6, "logging_steps": 10, "optim": "adamw_torch_fused", **overrides}
    trainer = trainer_class(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path, config_class, **settings),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        callbacks=[counter],
        rollout_func=lambda prompts, trainer: {
            "prompt_ids": tokenizer(prompts)["input_ids"],
            "completion_ids": [[20 + index % 7, 30, 31, 32] for index in range(len(prompts))],
            "logprobs": [[0.0] * 4 for _ in prompts],
        },
        **demonstrations,
    )
    trainer.train()
    return counter.counts


def test_a_learned_weight_adds_a_constant(tmp_path):
    """As many passes as there are demonstration micro-batches, and reads whose number no layer changes."""
    added = []
    for layers in (1, 3):
        learned = operations(tmp_path, AMFTTrainer, AMFTConfig, layers, gradient_accumulation_steps=2)
        learned.subtract(operations(tmp_path, GRPOTrainer, GRPOConfig, layers, gradient_accumulation_steps=2))
        added.append(dict(learned))
    assert added[0] == added[1] == {"forward": 2, "backward": 2, "tolist": 5, "cpu": 4, "item": 9}


CHUNK = 512


@pytest.mark.parametrize("preconditioner", ["adamw", "sgd"])
def test_the_only_buffer_of_the_size_of_the_gradient_is_the_copy(monkeypatch, preconditioner):
    monkeypatch.setattr(two_segment_step, "CPU_CHUNK_SIZE", CHUNK)
    model, _ = toy.model()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, fused=True)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    shards = ReplicatedGradients(model, optimizer, Accelerator(cpu=True), max_grad_norm=1.0)
    algebra = TwoSegmentStep(shards, GradientSketch(shards.num_elements, width=CHUNK - 3), preconditioner)
    with FreshTensors() as copy:
        algebra.store_rl_gradient()
    assert sum(copy.elements) == shards.num_elements
    for parameter in parameters:
        parameter.grad.normal_()
    with FreshTensors() as rest:
        algebra.sketch_gradient()
        found = algebra.combine(0.3, algebra.products(), 1e-3)
    assert found is not None and found[1] > 0.0
    # Scalars of the chunks are gathered in one list.
    chunks = sum(-(-parameter.numel() // CHUNK) for parameter in parameters)
    assert max(rest.elements) <= max(CHUNK, 3 * chunks)
    assert algebra._stored == []


def test_parameters_without_a_gradient_are_no_reason_to_doubt():
    """A vision tower has none in a step without pictures; the others have evidence all the same."""
    model, _ = toy.model()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters[1:]:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    shards = ReplicatedGradients(model, optimizer, Accelerator(cpu=True), max_grad_norm=1.0)
    algebra = TwoSegmentStep(shards, GradientSketch(shards.num_elements), "adamw")
    algebra.store_rl_gradient()
    for parameter in parameters[1:]:
        parameter.grad.normal_()
    sensitivity, norm = algebra.combine(0.3, algebra.products(), 1e-3)
    size = parameters[0].numel()
    assert norm > 0.0 and not sensitivity[:size].any() and sensitivity[size:].any()
