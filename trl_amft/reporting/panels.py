"""
What a report draws: one entry per panel, with the logged quantities in it and a sentence that tells how to read it.

A run only gets the panels that it has numbers for: a supervised baseline has no reward, a plain GRPO run no SFT loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .run_figure import Series, series
from .run_folder import Run


@dataclass(frozen=True)
class Line:
    """
    One curve.

    Args:
        label (`str`):
            Its name in the legend.
        read (`Callable[[Run], Series]`):
            Its points.
    """

    label: str
    read: Callable[[Run], Series]


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

    def drawn(self, run: Run) -> list[tuple[str, Series]]:
        """Label and points of the curves that a run has."""
        found = [(line.label, line.read(run)) for line in self.lines]
        if self.prefix is not None:
            names = sorted({name for row in run.log for name in row if name.startswith(self.prefix)})
            found += [(name.removeprefix(self.prefix), series(run.log, name)) for name in names]
        return [(label, points) for label, points in found if points.steps]


def logged(key: str, label: str = "") -> Line:
    """A curve of what was logged under a name."""
    return Line(label or key, lambda run: series(run.log, key))


def moved_by_entropy(run: Run) -> Series:
    """
    Sum of η_H (H* − H) over the steps so far: what the entropy term has added to μ.

    A log holds means over the steps since the log before, so the sum is exact whatever `logging_steps` is, but for
    steps at a bound, where the law clips.
    """
    rate = float(run.setting("mu_entropy_lr"))
    gaps = series(run.log, "amft/entropy_gap")
    total, before, sums = 0.0, run.warmup_steps, []
    for step, gap in zip(*gaps, strict=True):
        total += rate * gap * max(step - before, 0)
        before = step
        sums.append(total)
    return Series(gaps.steps, sums)


def moved_by_evidence(run: Run) -> Series:
    """What is left of μ's way from its first value: the term of dU/dμ, and what the bounds have cut off."""
    entropy = dict(zip(*moved_by_entropy(run), strict=True))
    weights = dict(zip(*series(run.log, "amft/mu"), strict=True))
    steps = [step for step in weights if step in entropy]
    if not steps:
        return Series([], [])
    start = float(run.recipe.get("mu_init", weights[steps[0]]))
    return Series(steps, [weights[step] - start - entropy[step] for step in steps])


def entropy_target(run: Run) -> Series:
    """H*: the gap is target minus entropy, so the target itself need not be logged."""
    entropy = dict(zip(*series(run.log, "entropy"), strict=True))
    gap = dict(zip(*series(run.log, "amft/entropy_gap"), strict=True))
    steps = [step for step in entropy if step in gap]
    return Series(steps, [entropy[step] + gap[step] for step in steps])


def tokens_per_second(run: Run) -> Series:
    """Tokens of rollouts and demonstrations per second of a step."""
    rows = [row for row in run.log if isinstance(row.get("time/step"), float) and row["time/step"] > 0.0]
    steps, values, before = [], [], {"step": 0, "num_tokens": 0.0}
    for row in rows:
        taken = max(row["step"] - before["step"], 1)
        rollouts = (row.get("num_tokens") or before["num_tokens"]) - before["num_tokens"]
        demonstrations = row.get("demonstrations/tokens") or 0.0
        steps.append(row["step"])
        values.append((rollouts / taken + demonstrations) / row["time/step"])
        before = {"step": row["step"], "num_tokens": before["num_tokens"] + rollouts}
    return Series(steps, values)


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
        (logged("eval_reward", "during training"),),
        compared=True,
    ),
    Panel(
        MIXING_WEIGHT,
        "Mixing weight μ",
        "1 imitates only, 0 explores only. Dashed: the bounds of a learned weight.",
        (logged("amft/mu", "μ"),),
        limits=(-0.03, 1.03),
        compared=True,
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
        "Nats per token of the rollouts. The target is H*.",
        (logged("entropy", "entropy"), Line("target", entropy_target)),
        compared=True,
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
