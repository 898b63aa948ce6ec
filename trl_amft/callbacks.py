"""The controller as a callback: it owns μ, is saved in every checkpoint, and finds its state again by default."""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ExportableState

from .meta_window import MetaGradient
from .mixing import MIXING_POLICIES, MixingPolicy, MixingSignals


if TYPE_CHECKING:
    from .amft_config import AMFTConfig


logger = logging.getLogger(__name__)


class MixingWeightCallback(TrainerCallback, ExportableState):
    """
    Holds the mixing policy and the live weight.

    [`AMFTTrainer`] adds one by itself and calls [`~MixingWeightCallback.update`] once per optimizer step, between the
    two gradients and the optimizer. The callback's own events only restore and save. It also works without a trainer:

    ```python
    callback = MixingWeightCallback(args)
    mu = callback.update(MixingSignals(step=0, entropy=1.2))
    ```

    Args:
        args ([`AMFTConfig`], *optional*):
            Configuration. May be omitted by a caller that binds it later, as transformers does when it restores
            callbacks from a checkpoint.
    """

    def __init__(self, args: "AMFTConfig | None" = None):
        self.policy: MixingPolicy | None = None
        self.mu = 0.0
        self.demonstrations_consumed = 0
        self.pending: MetaGradient | None = None
        self.restored: dict[str, Any] | None = None
        if args is not None:
            self.bind(args)

    def bind(self, args: "AMFTConfig") -> None:
        """Create the policy that `args` names, in its initial state."""
        self.policy = MIXING_POLICIES[args.mixing_policy](args)
        self.mu = args.mu_init
        self.demonstrations_consumed = 0
        self.pending = None

    @property
    def bound_policy(self) -> MixingPolicy:
        """The policy, once there is one."""
        assert self.policy is not None, "bind() comes first"
        return self.policy

    def known_weight(self, step: int, warmup_steps: int) -> float | None:
        """μ of a step if it is known beforehand: 1 in the warm-up, then as the policy says."""
        return 1.0 if step < warmup_steps else self.bound_policy.known_weight(step)

    def update(self, signals: MixingSignals) -> float:
        """
        Decide μ of the step that the signals describe.

        Args:
            signals ([`~trl_amft.mixing.MixingSignals`]):
                Equal on every process.

        Returns:
            `float`: μ in [0, 1].
        """
        self.mu = float(self.bound_policy.global_weight(signals))
        return self.mu

    def decide(self, signals: MixingSignals, known: float | None, accelerator: Accelerator) -> float:
        """
        μ of a mixed step: one number, whatever rounding the processes saw.

        Args:
            signals ([`~trl_amft.mixing.MixingSignals`]):
                Equal on every process but for rounding.
            known (`float`, *optional*):
                μ where it was known before the step.
            accelerator ([`~accelerate.Accelerator`]):
                Of the run; the main process decides.

        Returns:
            `float`: μ in [0, 1].

        Raises:
            `ValueError`: on every process, if the policy answers something else.
        """
        self.mu = self.update(signals) if known is None else known
        if accelerator.num_processes > 1:
            weights = self.bound_policy.source_weights
            values = torch.tensor([self.mu, *weights.values()], dtype=torch.float64, device=accelerator.device)
            torch.distributed.broadcast(values, src=0)
            self.mu, *agreed = values.tolist()
            weights.update(zip(weights, agreed, strict=True))
        if not 0.0 <= self.mu <= 1.0:
            raise ValueError(
                f"{type(self.bound_policy).__name__} answered mu={self.mu!r} at step {signals.step}: a policy must "
                "give a number in [0, 1]"
            )
        return self.mu

    def state(self) -> dict[str, Any]:
        """State for `trainer_state.json`."""
        if self.policy is None:
            return {"args": {}, "attributes": {}}
        attributes = {
            "restored": {
                "policy_name": type(self.policy).__name__,
                "policy": self.policy.state(),
                "mu": self.mu,
                "demonstrations_consumed": self.demonstrations_consumed,
                "pending": asdict(self.pending) if self.pending else None,
            }
        }
        return {"args": {}, "attributes": attributes}

    def on_train_begin(self, args, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        if 0 < state.max_steps < args.sft_warmup_steps:
            raise ValueError(
                f"sft_warmup_steps={args.sft_warmup_steps} exceeds the {state.max_steps} steps of the run, of which "
                "they are a part: raise num_train_epochs or max_steps"
            )
        # transformers restores callbacks only if asked to, and then into a new object; this covers both.
        if self.policy is None or state.global_step == 0:
            self.bind(args)
        # A dictionary by now, whatever its declared type says.
        saved: Any = state.stateful_callbacks
        stored = self.restored
        if stored is None and state.global_step > 0:
            stored = saved.get(type(self).__name__, {}).get("attributes", {}).get("restored")
        self.restored = None
        # A checkpoint of another trainer lacks this entry, and transformers looks it up when saving.
        saved.setdefault(type(self).__name__, self.state())
        if stored is not None and stored["policy_name"] == type(self.policy).__name__:
            # Before the first mixed step it is what this run's own arguments say.
            if state.global_step > args.sft_warmup_steps:
                self.bound_policy.load_state(stored["policy"])
            self.mu = stored["mu"]
            self.demonstrations_consumed = stored["demonstrations_consumed"]
            self.pending = MetaGradient(**stored["pending"]) if stored["pending"] else None
        elif state.global_step > 0:
            logger.warning(
                "The checkpoint at step %d holds no state of the %s controller: it starts fresh at mu=%g.",
                state.global_step,
                type(self.policy).__name__,
                self.mu,
            )
            if stored is not None:
                self.demonstrations_consumed = stored["demonstrations_consumed"]
