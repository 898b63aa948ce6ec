"""Arguments of [`AMFTTrainer`]: those of GRPO, the demonstrations, and the controller of the mixing weight."""

import math
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from .config_ranges import check_ranges
from .mixing import MIXING_POLICIES, PAPER_SETTINGS, MixingPolicy
from .rollouts.advantage_baseline import check_baseline


def _help(text: str) -> dict[str, str]:
    return {"help": text}


CHOICES = {
    "mixing_policy": MIXING_POLICIES,
    "meta_gradient": ("lagged", "validation"),
    "meta_normalization": ("rms", "cosine", "none"),
    "meta_preconditioner": ("adamw", "sgd"),
    "demonstration_truncation": ("drop", "truncate"),
}


@dataclass
class AMFTConfig(GRPOConfig):
    r"""
    Configuration of [`AMFTTrainer`]. Every argument of [`~trl.GRPOConfig`] keeps its meaning; those below are added.

    The method is AMFT (arXiv 2508.06944; withdrawn). Its constants are not used; `docs/method.md` tells for each
    default what was measured and what was not.

    Args:
        mixing_policy (`str`, *optional*, defaults to `"amft"`):
            Who decides the weight μ of imitation in L = (1 − μ) L_GRPO + μ L_SFT: `"amft"` learns it, `"fixed"` keeps
            `mu_init`. The others are listed in `docs/policies.md`; each is a class in `trl_amft.mixing`.
        mixing_policy_kwargs (`dict[str, Any]`, *optional*):
            Further arguments of the policy; unknown keys are refused.
        mu_init (`float`, *optional*, defaults to `0.2`):
            μ of the first mixed step, in [0, 1]; within the bounds where μ is learned.
        mu_min (`float`, *optional*, defaults to `0.0`):
            Lower bound of a learned μ, in [0, 1]. 0 is a legitimate answer: wrong demonstrations are left alone.
        mu_max (`float`, *optional*, defaults to `0.95`):
            Upper bound of a learned μ, in [0, 1]. Below 1, so that the reward is never left out.
        mu_lr (`float`, *optional*, defaults to `0.2`):
            η_μ: the largest change of μ by the meta-gradient per window of `meta_window` steps, ≥ 0. 0 measures
            without moving.
        mu_entropy_lr (`float`, *optional*, defaults to `0.0`):
            η_H: change of μ per step and nat of H* − H, ≥ 0.
        mu_entropy_target (`float`, *optional*):
            H* in nats, ≥ 0, at the sampling temperature. `None` measures it on the rollouts of the first RL step.
        meta_gradient (`str`, *optional*, defaults to `"lagged"`):
            Where ∇U comes from. `"lagged"`: the RL gradient of later steps on their fresh prompts, no extra rollout.
            `"validation"`: rollouts on held-out prompts every `meta_interval` steps.
        meta_interval (`int`, *optional*, defaults to `20`):
            Optimizer steps between two validation gradients, ≥ 1 (`"validation"` only).
        meta_batch_size (`int`, *optional*):
            Unique prompts of one validation gradient over all processes, ≥ 1. `None`: as many as in an RL step.
        meta_normalization (`str`, *optional*, defaults to `"rms"`):
            How dU/dμ is made dimensionless: `"rms"` by its running root mean square, clipped to [−1, 1] and weighed
            by its evidence, min(|t| / 2, 1); `"cosine"` by the norms of its factors; `"none"` keeps the raw value (the
            paper's form).
        meta_momentum (`float`, *optional*, defaults to `0.0`):
            Decay of the running mean of dU/dμ, in [0, 1).
        meta_variance_decay (`float`, *optional*, defaults to `0.99`):
            Decay of its running mean square, in [0, 1).
        meta_preconditioner (`str`, *optional*, defaults to `"adamw"`):
            Form of dθ'/dμ: `"adamw"` derives the clipped AdamW update exactly; `"sgd"` is −α d, for any optimizer.
        meta_window (`int`, *optional*, defaults to `10`):
            W: both factors of the meta-gradient are averaged over this many optimizer steps, ≥ 1. 1 is one-step.
        meta_trace_decay (`float`, *optional*, defaults to `1.0`):
            Weight λ^age of older sensitivities inside the window, in [0, 1]. 1 weighs all alike.
        sft_warmup_steps (`int`, *optional*, defaults to `0`):
            Optimizer steps of supervised fine-tuning (μ = 1, no rollouts, no prompt consumed) before the mix, ≥ 0.
            They count in `max_steps` and in the learning-rate schedule.
        per_device_demonstration_batch_size (`int`, *optional*):
            Demonstrations per process and micro-batch, ≥ 1. `None`: `per_device_train_batch_size` /
            `num_generations`, at least 1.
        max_demonstration_length (`int`, *optional*):
            Longest completion of a demonstration in tokens, EOS included, ≥ 1. `None`: `max_completion_length`.
        demonstration_truncation (`str`, *optional*, defaults to `"drop"`):
            What happens to a longer one: `"drop"` leaves it out and counts it, `"truncate"` cuts it (it then does not
            end in EOS).
        demonstration_min_reward (`float`, *optional*):
            Demonstrations are scored once by the reward functions and those below this reward are dropped and
            counted. `None`: off.
        demonstration_column (`str`, *optional*, defaults to `"demonstration"`):
            Column of the training set with the paired demonstration of a prompt; `None` or `""` in it means absent.
            Not used when a separate `demonstration_dataset` is given.
        advantage_baseline (`str`, *optional*, defaults to `"group"`):
            What is subtracted from a reward: `"group"` leaves it to TRL; `"column:NAME"` takes the number in
            that column of the training set, and leaves rows without a number to TRL. See `docs/rewards_and_data.md`.
    """

    _VALID_DICT_FIELDS = GRPOConfig._VALID_DICT_FIELDS + ["mixing_policy_kwargs"]

    mixing_policy: str = field(
        default="amft", metadata=_help("Who decides the weight of imitation: " + ", ".join(MIXING_POLICIES) + ".")
    )
    mixing_policy_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=_help("Further arguments of the mixing policy; unknown keys are refused.")
    )
    mu_init: float = field(default=0.2, metadata=_help("Weight of imitation at the first mixed step, in [0, 1]."))
    mu_min: float = field(default=0.0, metadata=_help("Lower bound of a learned weight, in [0, 1]."))
    mu_max: float = field(default=0.95, metadata=_help("Upper bound of a learned weight, in [0, 1]."))
    mu_lr: float = field(
        default=0.2, metadata=_help("Largest change of the weight by the meta-gradient per window of steps, >= 0.")
    )
    mu_entropy_lr: float = field(
        default=0.0, metadata=_help("Change of the weight per step and nat of missing entropy, >= 0.")
    )
    mu_entropy_target: float | None = field(
        default=None, metadata=_help("Entropy target in nats, >= 0; unset: measured on the first RL step.")
    )
    meta_gradient: str = field(
        default="lagged", metadata=_help("Source of the utility's gradient: lagged or validation.")
    )
    meta_interval: int = field(
        default=20, metadata=_help("Optimizer steps between two validation gradients, >= 1 (validation only).")
    )
    meta_batch_size: int | None = field(
        default=None, metadata=_help("Unique prompts of one validation gradient, global, >= 1; unset: as an RL step.")
    )
    meta_normalization: str = field(
        default="rms", metadata=_help("How the meta-gradient is made dimensionless: rms, cosine or none.")
    )
    meta_momentum: float = field(default=0.0, metadata=_help("Decay of the meta-gradient's running mean, in [0, 1)."))
    meta_variance_decay: float = field(
        default=0.99, metadata=_help("Decay of the meta-gradient's running mean square, in [0, 1).")
    )
    meta_preconditioner: str = field(
        default="adamw", metadata=_help("Form of the sensitivity: adamw (exact) or sgd (any optimizer).")
    )
    meta_window: int = field(
        default=10, metadata=_help("Optimizer steps over which both factors of the meta-gradient are averaged, >= 1.")
    )
    meta_trace_decay: float = field(
        default=1.0, metadata=_help("Weight per step of age of a sensitivity inside the window, in [0, 1].")
    )
    sft_warmup_steps: int = field(
        default=0, metadata=_help("Optimizer steps of supervised fine-tuning before the mix, >= 0; part of max_steps.")
    )
    per_device_demonstration_batch_size: int | None = field(
        default=None,
        metadata=_help("Demonstrations per process and micro-batch, >= 1; unset: train batch size / num_generations."),
    )
    max_demonstration_length: int | None = field(
        default=None,
        metadata=_help("Longest demonstration completion in tokens, EOS included; unset: max_completion_length."),
    )
    demonstration_truncation: str = field(
        default="drop", metadata=_help("What happens to a longer demonstration: drop or truncate.")
    )
    demonstration_min_reward: float | None = field(
        default=None, metadata=_help("Drop demonstrations that the reward functions score below this; unset: off.")
    )
    demonstration_column: str = field(
        default="demonstration", metadata=_help("Column of the training set with the paired demonstration.")
    )
    advantage_baseline: str = field(
        default="group",
        metadata=_help("What is subtracted from a reward: group (TRL's advantage) or column:NAME, a number per row."),
    )

    def __post_init__(self):
        if self.mixing_policy == "amft_paper":
            self._take_paper_settings()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(choices)}")
        check_ranges(self)
        if self.fp16:
            raise ValueError(
                "fp16=True is not supported: gradients would carry the loss scale into the meta-gradient; use bf16"
            )
        if self.enable_jit_checkpoint:
            raise ValueError(
                "enable_jit_checkpoint=True is not supported: it saves in the middle of a step, which cannot be "
                "resumed exactly; leave it out and add the callback trl_amft.StopOnSignal"
            )
        super().__post_init__()
        self._check_mixing()
        check_baseline(self)
        self._check_steps()
        # Its own arguments are checked by the policy, before a model is loaded.
        self.policy_class(self)
        if self.per_device_demonstration_batch_size is None:
            assert self.num_generations is not None, "GRPOConfig has divided by it"
            self.per_device_demonstration_batch_size = max(self.per_device_train_batch_size // self.num_generations, 1)
        if self.max_demonstration_length is None:
            if self.max_completion_length is None:
                raise ValueError(
                    "max_demonstration_length=None means max_completion_length, which is None too: give one of them"
                )
            self.max_demonstration_length = self.max_completion_length

    @property
    def policy_class(self) -> type[MixingPolicy]:
        """Class of the mixing policy."""
        return MIXING_POLICIES[self.mixing_policy]

    @property
    def needs_validation(self) -> bool:
        """Whether dU/dμ is measured on held-out prompts."""
        return self.policy_class.needs_meta_gradient and self.meta_gradient == "validation"

    @property
    def generation_steps(self) -> int:
        """Micro-batches that one batch of rollouts serves."""
        assert self.steps_per_generation is not None, "GRPOConfig fills it in"
        return self.steps_per_generation * self.num_iterations

    @property
    def meta_estimate_interval(self) -> int:
        """Optimizer steps between two gradients that can judge μ: those of steps that begin with fresh rollouts."""
        if self.meta_gradient == "validation":
            return self.meta_interval
        return self.steps_between_fresh_rollouts

    @property
    def steps_between_fresh_rollouts(self) -> int:
        """Optimizer steps from one that begins with a new batch of rollouts to the next one."""
        return self.generation_steps // math.gcd(self.generation_steps, self.gradient_accumulation_steps)

    def _take_paper_settings(self) -> None:
        for name, value in PAPER_SETTINGS.items():
            given, default = getattr(self, name), self.__dataclass_fields__[name].default
            if given not in (default, value):
                raise ValueError(
                    f"{name}={given!r} contradicts mixing_policy='amft_paper', which sets it to {value!r}: drop it or "
                    "use mixing_policy='amft'"
                )
            setattr(self, name, value)

    def _check_mixing(self) -> None:
        allowed = self.policy_class.keywords
        kwargs = self.mixing_policy_kwargs or {}
        if not isinstance(kwargs, dict):
            raise ValueError(f"mixing_policy_kwargs={kwargs!r} is no mapping: give keys and values")
        for key in kwargs:
            if key not in allowed:
                raise ValueError(
                    f"mixing_policy_kwargs: unknown key {key!r} for mixing_policy={self.mixing_policy!r}; it takes "
                    f"{', '.join(allowed) if allowed else 'none'}"
                )
        if not self.policy_class.bounded:
            return
        if self.mu_min > self.mu_max:
            raise ValueError(f"mu_min={self.mu_min} is above mu_max={self.mu_max}: lower it or raise mu_max")
        if not self.mu_min <= self.mu_init <= self.mu_max:
            raise ValueError(
                f"mu_init={self.mu_init} is outside [mu_min, mu_max] = [{self.mu_min}, {self.mu_max}]: move it inside"
            )
        if self.policy_class.needs_meta_gradient and self.use_adaptive_entropy and self.mu_entropy_lr != 0.0:
            raise ValueError(
                f"use_adaptive_entropy=True and mu_entropy_lr={self.mu_entropy_lr} would be two controllers of one "
                "entropy: set mu_entropy_lr to 0 or use_adaptive_entropy to False"
            )

    def _check_steps(self) -> None:
        generation_steps = self.generation_steps
        if self.policy_class.paired and generation_steps % self.gradient_accumulation_steps:
            raise ValueError(
                f"steps_per_generation={self.steps_per_generation} lets a step of gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps} take rollouts of two batches, but mixing_policy="
                f"{self.mixing_policy!r} chooses demonstrations batch by batch: make steps_per_generation a multiple "
                f"of {self.gradient_accumulation_steps}"
            )
        if 0 < self.max_steps < self.sft_warmup_steps:
            raise ValueError(
                f"sft_warmup_steps={self.sft_warmup_steps} exceeds max_steps={self.max_steps}, of which it is a part: "
                "raise max_steps"
            )
        for name in ("sft_warmup_steps", "save_steps"):
            value = getattr(self, name)
            if name == "save_steps":
                if self.save_strategy != "steps" or (value < 1 and self.max_steps <= 0):
                    continue
                value = value if value >= 1 else math.ceil(value * self.max_steps)
            if (value * self.gradient_accumulation_steps) % generation_steps:
                every = self.steps_between_fresh_rollouts
                raise ValueError(
                    f"{name}={value:g} does not fall on a generation batch, which spans {every} optimizer steps: make "
                    f"it a multiple of {every}, so that a resumed run is exact"
                )
