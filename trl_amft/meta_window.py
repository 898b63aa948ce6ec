"""
The windowed estimate of dU/dμ, with an honest standard error.

One product −⟨g_U, dθ'/dμ⟩ is mostly noise, because both factors are. Averaging both factors before the product makes
the same data conclusive much sooner than averaging products does. The product of two averages is the average over all
pairs, so it is enough to keep a short history of sensitivities (as sketches) and one scalar per pair: each pair joins
the sensitivity of a step with the utility gradient of a *later* one, never of its own.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


# History, in windows, from which the standard error is taken, and how many of them it needs.
HISTORY_WINDOWS = 8
MIN_WINDOWS = 4


@dataclass(frozen=True)
class MetaGradient:
    """
    An estimate of the meta-gradient.

    Args:
        value (`float`):
            dU/dμ per unit of learning rate (the learning rate is divided out, so that its decay is not read as a
            fading signal).
        cosine (`float`):
            The same over the product of norms of its factors, in [−1, 1].
        t_value (`float`):
            Mean over the last windows divided by its jackknife standard error; NaN before four windows.
    """

    value: float
    cosine: float
    t_value: float


class MetaGradientWindow:
    r"""
    History of sensitivities and of their products with later utility gradients.

    At step t the estimate is the mean of −⟨g_j, q_i⟩ over t − 2W < i < j ≤ t, each pair weighted by λ^(j − i − 1).
    W = 1 is the one-step form −⟨g_t, q_{t−1}⟩.

    Args:
        window (`int`):
            W, in optimizer steps, ≥ 1.
        trace_decay (`float`, *optional*, defaults to `1.0`):
            λ in [0, 1]: how much the sensitivity of an older step weighs.
        interval (`int`, *optional*, defaults to `1`):
            Optimizer steps between two utility gradients.
    """

    def __init__(self, window: int, trace_decay: float = 1.0, interval: int = 1):
        self.window = window
        self.lags = 2 * window - 1
        self.trace_decay = trace_decay
        self.interval = interval
        self._block = max(window, interval)
        self.history = HISTORY_WINDOWS * self._block
        self.clear()

    def clear(self) -> None:
        """Forget everything, for example after resuming without the stored sketches."""
        self._sketches: Tensor | None = None
        self._sketch_steps = [-1] * self.lags
        self._sketch_norms = [0.0] * self.lags
        # Row j % history, column lag − 1: the product of g_j with q_{j − lag}, and of their norms.
        self._products = torch.full((self.history, self.lags), math.nan, dtype=torch.float64)
        self._norms = torch.full((self.history, self.lags), math.nan, dtype=torch.float64)
        self._rows = torch.full((self.history,), -1, dtype=torch.int64)

    def add_sensitivity(self, step: int, sketch: Tensor, norm: float) -> None:
        """
        Remember q of a step.

        Args:
            step (`int`):
                The optimizer step, ≥ 0.
            sketch (`torch.Tensor` of shape (k,)):
                Sketch of dθ'/dμ divided by the learning rate.
            norm (`float`):
                ‖q‖, of the vector or of its sketch.
        """
        if not math.isfinite(norm):
            return
        if self._sketches is None:
            self._sketches = sketch.new_zeros((self.lags, sketch.numel()))
        slot = step % self.lags
        self._sketches[slot].copy_(sketch)
        self._sketch_steps[slot] = step
        self._sketch_norms[slot] = norm

    def add_utility(self, step: int, sketch: Tensor, norm: float) -> MetaGradient | None:
        """
        Judge the remembered sensitivities by the utility's gradient at θ of `step`, and estimate dU/dμ.

        Args:
            step (`int`):
                The optimizer step at whose parameters the gradient was taken; only older sensitivities are paired.
            sketch (`torch.Tensor` of shape (k,)):
                Sketch of the gradient of the *loss*, that is of −∇U.
            norm (`float`):
                Norm of that gradient.

        Returns:
            [`MetaGradient`], *optional*: `None` while fewer than half of the pairs of a full window are there.
        """
        row = step % self.history
        self._products[row] = math.nan
        self._norms[row] = math.nan
        self._rows[row] = step
        if self._sketches is None or not math.isfinite(norm):
            return None
        products = -(self._sketches @ sketch.to(self._sketches.dtype)).cpu().double()
        for slot, source in enumerate(self._sketch_steps):
            lag = step - source
            if source >= 0 and 1 <= lag <= self.lags and math.isfinite(products[slot]):
                self._products[row, lag - 1] = products[slot]
                self._norms[row, lag - 1] = norm * self._sketch_norms[slot]
        return self.estimate(step)

    def estimate(self, step: int) -> MetaGradient | None:
        """The estimate at `step` from the pairs seen so far; see [`~MetaGradientWindow.add_utility`]."""
        utility_steps, sensitivity_steps = self._pair_steps()
        weights = self._pair_weights()
        recent = (sensitivity_steps > step - 2 * self.window) & (utility_steps <= step) & ~self._products.isnan()
        full = self.window * (2 * self.window - 1)
        if recent.sum().item() * 2 * self.interval < full:
            return None
        weighted = (self._products * weights)[recent].sum()
        total = weights[recent].sum()
        scale = (self._norms * weights)[recent].sum()
        return MetaGradient(
            value=(weighted / total).item(),
            cosine=(weighted / scale).item() if scale > 0.0 else 0.0,
            t_value=self._t_value(step),
        )

    def _pair_steps(self) -> tuple[Tensor, Tensor]:
        utility_steps = self._rows[:, None].expand(-1, self.lags)
        return utility_steps, utility_steps - torch.arange(1, self.lags + 1)

    def _pair_weights(self) -> Tensor:
        decay = torch.tensor([self.trace_decay**lag for lag in range(self.lags)], dtype=torch.float64)
        return decay.expand(self.history, -1)

    def _t_value(self, step: int) -> float:
        """
        Delete-one-window jackknife over the last windows. Neighbouring products share a window, so leaving a window
        out removes every pair that touches it.
        """
        utility_steps, sensitivity_steps = self._pair_steps()
        present = ~self._products.isnan() & (sensitivity_steps > step - self.history)
        windows = torch.arange(HISTORY_WINDOWS)
        utility_window = (step - utility_steps) // self._block
        sensitivity_window = (step - sensitivity_steps) // self._block
        values = self._products.nan_to_num(0.0) * self._pair_weights() * present
        weights = self._pair_weights() * present
        touched = (utility_window == windows[:, None, None]) | (sensitivity_window == windows[:, None, None])
        occupied = (touched & present).flatten(1).any(1)
        if occupied.sum() < MIN_WINDOWS:
            return math.nan
        kept = (~touched[occupied]).double()
        remaining = (weights * kept).sum((1, 2))
        if (remaining == 0.0).any():
            return math.nan
        means = (values * kept).sum((1, 2)) / remaining
        count = means.numel()
        error = ((count - 1) / count * (means - means.mean()).square().sum()).sqrt()
        mean = values.sum() / weights.sum()
        return (mean / error).item() if error > 0.0 else math.nan

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors, for a checkpoint."""
        state = {
            "products": self._products,
            "norms": self._norms,
            "rows": self._rows,
            "sketch_steps": torch.tensor(self._sketch_steps),
            "sketch_norms": torch.tensor(self._sketch_norms, dtype=torch.float64),
        }
        if self._sketches is not None:
            state["sketches"] = self._sketches
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def load_state_dict(self, state: dict[str, Tensor], device: torch.device | str | None = None) -> None:
        """
        Restore from [`~MetaGradientWindow.state_dict`].

        Raises:
            `ValueError`: if the stored history was made with another window, or by another kind of policy.
        """
        if "products" not in state:
            raise ValueError("the checkpoint holds no meta-gradients but another kind of evidence")
        if state["products"].shape != self._products.shape:
            raise ValueError(
                f"the stored history has shape {tuple(state['products'].shape)}, `meta_window={self.window}` needs "
                f"{tuple(self._products.shape)}"
            )
        self._products = state["products"].clone()
        self._norms = state["norms"].clone()
        self._rows = state["rows"].clone()
        self._sketch_steps = state["sketch_steps"].tolist()
        self._sketch_norms = state["sketch_norms"].tolist()
        self._sketches = state["sketches"].to(device, copy=True) if "sketches" in state else None
