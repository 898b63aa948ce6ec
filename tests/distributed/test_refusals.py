"""Ways of sharding that are refused, each with one line."""

import math
from types import SimpleNamespace

import pytest
import torch

import toy
from messages import one_line
from trl_amft.runtime.input_checks import check_distributed
from trl_amft.sharding.zero import FlatGradients, zero_gradients


def deepspeed(fp16=False, **zero_optimization):
    config = {"zero_optimization": zero_optimization, "fp16": {"enabled": fp16}}
    return SimpleNamespace(mixed_precision="no", deepspeed_plugin=SimpleNamespace(deepspeed_config=config))


def fsdp(version):
    plugin = SimpleNamespace(fsdp_version=version)
    return SimpleNamespace(mixed_precision="no", deepspeed_plugin=None, fsdp_plugin=plugin)


def test_fsdp_version(tmp_path):
    with pytest.raises(ValueError) as error:
        check_distributed(fsdp(1), toy.config(tmp_path))
    one_line(error, "fsdp_version=1", "set it to 2")
    check_distributed(fsdp(2), toy.config(tmp_path))
    check_distributed(fsdp(1), toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0))


def test_half_precision_of_the_launcher(tmp_path):
    state = SimpleNamespace(mixed_precision="fp16", deepspeed_plugin=None)
    with pytest.raises(ValueError) as error:
        check_distributed(state, toy.config(tmp_path))
    one_line(error, "mixed_precision='fp16'", "loss scale", "use bf16")
    check_distributed(state, toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0))


@pytest.mark.parametrize(
    ("found", "state", "parts"),
    [
        ("0.19.7", deepspeed(stage=3), ["deepspeed 0.19.7", "loses gradients", "pip install 'deepspeed>=0.19.8'"]),
        ("0.19.8", deepspeed(), ["ZeRO stage 0", "set zero_optimization.stage to 1, 2 or 3"]),
        ("0.19.8", deepspeed(stage=3, offload_param={"device": "nvme"}), ["offload_param.device='nvme'", "'cpu'"]),
        ("0.19.8", deepspeed(stage=3, offload_optimizer={"device": "nvme"}), ["offload_optimizer.device='nvme'"]),
        ("0.19.8", deepspeed(fp16=True, stage=3), ["fp16.enabled=True", "use bf16"]),
        ("0.19.8", deepspeed(stage=2, compute_grad_norm=False), ["compute_grad_norm=False", "leave it out"]),
    ],
    ids=["old", "stage 0", "parameters on nvme", "optimizer on nvme", "fp16", "no norm"],
)
def test_deepspeed(tmp_path, monkeypatch, found, state, parts):
    monkeypatch.setattr("trl_amft.runtime.input_checks.version", lambda package: found)
    with pytest.raises(ValueError) as error:
        check_distributed(state, toy.config(tmp_path))
    one_line(error, *parts)
    check_distributed(state, toy.config(tmp_path, mixing_policy="fixed", mu_init=0.0))


@pytest.mark.parametrize("device", ["none", "cpu"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_stages(tmp_path, monkeypatch, stage, device):
    monkeypatch.setattr("trl_amft.runtime.input_checks.version", lambda package: "0.20.0")
    check_distributed(deepspeed(stage=stage, offload_optimizer={"device": device}), toy.config(tmp_path))


@pytest.mark.parametrize(("half", "optimizer", "part"), [(True, object(), "fp16"), (False, object(), "object")])
def test_deepspeed_precision(half, optimizer, part):
    engine = SimpleNamespace(fp16_enabled=lambda: half, optimizer=optimizer)
    with pytest.raises(ValueError) as error:
        zero_gradients(engine, None)
    one_line(error, part, "is not supported")


def test_deepspeed_with_another_gradient():
    """What DeepSpeed stepped with must be what was written."""
    engine = SimpleNamespace(
        optimizer=SimpleNamespace(optimizer=None),
        gradient_clipping=lambda: 1.0,
        module=torch.nn.Linear(2, 2),
        step=lambda: None,
        get_global_grad_norm=lambda: torch.tensor(2.0),
    )
    shards = FlatGradients(engine, SimpleNamespace(device="cpu", deepspeed_engine_wrapped=None))
    shards.step(2.001)
    shards.step(math.nan)
    with pytest.raises(RuntimeError) as error:
        shards.step(2.1)
    one_line(error, "norm 2", "norm 2.1", "zero_optimization")
