"""dU/dμ in float64 from gradients and optimizer states that DeepSpeed itself puts together, beside a run."""

import torch
from deepspeed.utils import safe_get_full_grad, safe_get_full_optimizer_state

from trl_amft.meta_gradient import adamw_sensitivity


class ZeroReplay:
    """
    Notes −⟨g_RL(t), dθ'/dμ(t − 1)⟩ and the product of the norms, per learning rate, at every mixed step but the first.

    Args:
        trainer ([`AMFTTrainer`]):
            Under DeepSpeed. Its step is watched from now on.
    """

    def __init__(self, trainer):
        self.values = []
        self._parameters = [p for p in trainer.model.parameters() if p.requires_grad]
        self._algebra = algebra = trainer.step_algebra
        self._store, self._combine = algebra.store_rl_gradient, algebra.combine
        self._sensitivity = None
        algebra.store_rl_gradient, algebra.combine = self.store_rl_gradient, self.combine

    def store_rl_gradient(self):
        self._rl = self._gradients()
        if self._sensitivity is not None:
            pairs = list(zip(self._rl, self._sensitivity, strict=True))
            norms = [torch.cat([part.flatten() for part in parts]).norm().item() for parts in zip(*pairs, strict=True)]
            self.values.append((-sum((g * q).sum().item() for g, q in pairs), norms[0] * norms[1]))
        self._store()

    def combine(self, mu, products, learning_rate):
        first, second = (
            [safe_get_full_optimizer_state(p, name).double() for p in self._parameters]
            for name in ("exp_avg", "exp_avg_sq")
        )
        shards = self._algebra.shards
        piece = next(filter(None, shards.pieces()))
        hyperparameters = (int(piece.step), 1.0, piece.betas, piece.eps, shards.max_grad_norm)
        _, self._sensitivity = adamw_sensitivity(self._rl, self._gradients(), mu, first, second, *hyperparameters)
        return self._combine(mu, products, learning_rate)

    def _gradients(self):
        return [safe_get_full_grad(p).double() for p in self._parameters]
