"""
What a report draws: one entry per panel, with the logged quantities in it and a sentence that tells how to read it.

A run only gets the panels that it has numbers for: a supervised baseline has no reward, a plain GRPO run no SFT loss.
"""

from dataclasses import dataclass

from .curves import (
    Line,
    entropy_target,
    held_out_during_training,
    logged,
    moved_by_entropy,
    moved_by_evidence,
    tokens_per_second,
)
from .run_figure import Series, series
from .run_folder import Run


@dataclass(frozen=True)
class Panel:
    """
    One picture of the report.

    Args:
        name (`str`):
            Name of the file, without ending.
        title (`str`):
            Heading.
        explanation (`str`):
            How to read it.
        alone (`str`):
            What else to say of the picture of a single run.
        lines (`tuple[Line, ...]`):
            Curves; those without points are left out. The first one stands for the panel where runs are compared.
        limits (`tuple[float, float]`, *optional*):
            Range of the vertical axis. As the numbers need if not given.
        marks (`tuple[float, ...]`):
            Horizontal lines.
        compared (`bool`):
            Whether several runs are drawn over each other in it.
        prefix (`str`, *optional*):
            Every quantity whose name begins so is a further curve, such as one per source of demonstrations.
    """

    name: str
    title: str
    explanation: str
    lines: tuple[Line, ...]
    limits: tuple[float, float] | None = None
    marks: tuple[float, ...] = ()
    compared: bool = False
    prefix: str | None = None
    alone: str = ""

    def drawn(self, run: Run) -> list[tuple[str, Series]]:
        """Label and points of the curves that a run has."""
        found = [(line.label, line.read(run)) for line in self.lines]
        if self.prefix is not None:
            names = sorted({name for row in run.log for name in row if name.startswith(self.prefix)})
            found += [(name.removeprefix(self.prefix), series(run.log, name)) for name in names]
        return [(label, points) for label, points in found if points.steps]


HELD_OUT = "held_out"
MIXING_WEIGHT = "mixing_weight"
TIME = "time"

TIME_PARTS = {
    "time/rollouts": "rollouts",
    "time/rewards": "rewards",
    "time/sync": "weights to vLLM",
    "time/rl": "RL passes",
    "time/sft": "SFT passes",
    "time/controller": "controller",
    "time/optimizer": "optimizer and rest",
}

PANELS = (
    Panel(
        "reward",
        "Training reward",
        "Mean reward of the rollouts.",
        (logged("reward"),),
        compared=True,
    ),
    Panel(
        HELD_OUT,
        "Held-out accuracy",
        "Problems that are never trained on. Points with error bars: all of them, ± 1 standard error. Line: the part "
        "that is evaluated during training.",
        (Line("during training", held_out_during_training),),
        compared=True,
    ),
    Panel(
        MIXING_WEIGHT,
        "Mixing weight μ",
        "1 imitates only, 0 explores only.",
        (logged("amft/mu", "μ"),),
        limits=(-0.03, 1.03),
        compared=True,
        alone=" Dashed: the bounds of a learned weight.",
    ),
    Panel(
        "sources",
        "Weights by source",
        "μ of each source of demonstrations; they sum up to μ.",
        (),
        limits=(-0.03, 1.03),
        prefix="amft/mu/",
    ),
    Panel(
        "moves_of_mu",
        "What moved μ",
        "The two terms of the law, summed from the first mixed step: evidence from dU/dμ (with what the bounds cut "
        "off), and missing entropy.",
        (Line("evidence", moved_by_evidence), Line("entropy", moved_by_entropy)),
        marks=(0.0,),
    ),
    Panel(
        "evidence",
        "Evidence of dU/dμ",
        "t value over the last eight windows. Beyond ± 2 μ moves at full speed, near 0 it stays.",
        (logged("amft/meta_gradient_snr", "t value"),),
        marks=(-2.0, 0.0, 2.0),
    ),
    Panel(
        "meta_gradient",
        "dU/dμ, as a cosine",
        "Positive: more imitation would raise the reward. One estimate is mostly noise; the t value tells what "
        "several say together.",
        (logged("amft/meta_gradient_cosine", "estimate"),),
        marks=(0.0,),
    ),
    Panel(
        "entropy",
        "Policy entropy",
        "Nats per token of the rollouts.",
        (logged("entropy", "entropy"), Line("target", entropy_target)),
        compared=True,
        alone=" The target is H*.",
    ),
    Panel("rl_loss", "RL loss", "L_RL, unscaled.", (logged("amft/rl_loss", "L_RL"),), compared=True),
    Panel(
        "sft_loss",
        "SFT loss",
        "L_SFT in nats per labelled token.",
        (logged("amft/sft_loss", "L_SFT"),),
        compared=True,
    ),
    Panel(
        "gradient_norms",
        "Gradient norms",
        "Of both gradients, before mixing and clipping.",
        (logged("amft/rl_grad_norm", "‖g_RL‖"), logged("amft/sft_grad_norm", "‖g_SFT‖")),
    ),
    Panel(
        "gradient_cosine",
        "Cosine of the two gradients",
        "Below 0 the two losses pull against each other.",
        (logged("amft/grad_cosine", "cosine"),),
        marks=(0.0,),
    ),
    Panel(
        "effective_ratio",
        "Imitation over exploration",
        "μ‖g_SFT‖ / ((1 − μ)‖g_RL‖): which of the two the step really follows.",
        (logged("amft/effective_sft_ratio", "ratio"),),
    ),
    Panel(
        "dead_groups",
        "Dead groups",
        "Share of prompts whose rollouts all got the same reward. They teach nothing.",
        (logged("frac_reward_zero_std", "share"),),
        limits=(-0.03, 1.03),
        compared=True,
    ),
    Panel(
        "reward_spread",
        "Spread of rewards",
        "Standard deviation over the rollouts of a step.",
        (logged("reward_std", "std"),),
    ),
    Panel(
        "completion_length",
        "Length of completions",
        "Tokens, mean over the rollouts of a step.",
        (
            logged("completions/mean_length", "all"),
            logged("completions/mean_terminated_length", "ended by themselves"),
        ),
        compared=True,
    ),
    Panel(
        "clipped",
        "Cut completions",
        "Share of rollouts that reached the longest length without an end.",
        (logged("completions/clipped_ratio", "share"),),
        limits=(-0.03, 1.03),
    ),
    Panel(
        "demonstration_accuracy",
        "Demonstration tokens ranked first",
        "Share of labelled tokens that the model would choose itself.",
        (logged("amft/sft_token_accuracy", "share"),),
        compared=True,
    ),
    Panel(
        "demonstration_epochs",
        "Passes over the demonstrations",
        "Beyond a few passes they are learned by heart.",
        (logged("demonstrations/epoch", "passes"),),
    ),
    Panel(
        "demonstration_tokens",
        "Demonstration tokens per step",
        "Labelled tokens, over all processes.",
        (logged("demonstrations/tokens", "tokens"),),
    ),
    Panel(
        TIME,
        "Seconds per step",
        "Where the time of a step goes, on the main process.",
        tuple(logged(key, label) for key, label in TIME_PARTS.items()),
    ),
    Panel(
        "tokens_per_second",
        "Tokens per second",
        "Tokens of rollouts (with their prompts) and labelled tokens of demonstrations, per second of training.",
        (Line("tokens", tokens_per_second),),
        compared=True,
    ),
    Panel(
        "learning_rate",
        "Learning rate",
        "As the schedule sets it.",
        (logged("learning_rate", "rate"),),
    ),
    Panel(
        "grad_norm",
        "Norm of the mixed gradient",
        "Before clipping.",
        (logged("grad_norm", "norm"),),
    ),
)
