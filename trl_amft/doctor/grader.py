"""The grader on a few answers that everybody agrees on: whether its processes start here and math-verify is there."""

from collections.abc import Callable

from trl.import_utils import is_math_verify_available

from ..cli.data_checks import innermost
from ..cli.recipe_fields import RecipeArguments
from ..rewards import ExplorationReward
from ..tasks.prefixes import prefix_reward
from .findings import NOTE, OK, Finding, problem


GRADING = "trl_amft.grading"


# Completion, ground truth, verdict.
PAIRS = (
    (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}", True),
    (r"so \boxed{0.5}", r"\frac{1}{2}", True),
    (r"so \boxed{x+1}", "1+x", True),
    (r"so \boxed{2}", "3", False),
    (r"so \boxed{\sqrt{8}}", r"2\sqrt{2}", True),
    ("no answer at all", "3", False),
)


def uses_grader(run: RecipeArguments, rewards: list[Callable] | None) -> bool:
    """
    Args:
        run (`RecipeArguments`):
            Names task and rewards.
        rewards (`list[Callable]`, *optional*):
            Those that were loaded from it.

    Returns:
        `bool`: whether any of them grades maths.
    """
    if rewards is None:
        return run.task == "maths" or any(name.startswith(GRADING) for name in run.reward_funcs or [])
    judges = [reward.judge for reward in rewards if isinstance(reward, ExplorationReward)]
    functions = [innermost(reward) for reward in [*rewards, *judges]]
    return any(f is prefix_reward or (getattr(f, "__module__", None) or "").startswith(GRADING) for f in functions)


def check_grader(needed: bool) -> list[Finding]:
    """
    Args:
        needed (`bool`):
            Whether a recipe's rewards use it.
    """
    if not is_math_verify_available():
        text = "math-verify is not installed: run `pip install 'trl_amft[math]'`"
        return [problem(f"the grader needs it: {text}") if needed else Finding(NOTE, text)]
    from ..grading import Grader

    grader = Grader()
    try:
        verdicts = grader.grade([text for text, _, _ in PAIRS], [gold for _, gold, _ in PAIRS])
    # What stops processes from starting has many forms: limits, sandboxes, missing packages.
    except Exception as error:
        return [
            problem(f"the grader's processes do not work here ({type(error).__name__}: {error}): check ulimit -v -u")
        ]
    finally:
        grader.close()
    wrong = [text for (text, _, right), verdict in zip(PAIRS, verdicts, strict=True) if verdict.correct != right]
    slow = [text for (text, _, _), verdict in zip(PAIRS, verdicts, strict=True) if verdict.undecided]
    if slow:
        return [problem(f"the grader came to no end on {slow[0]!r}: the machine is overloaded, or memory is short")]
    if wrong:
        return [problem(f"the grader misjudges {wrong[0]!r}: reinstall math-verify in the range of this package")]
    return [Finding(OK, f"grader: {len(PAIRS)} of {len(PAIRS)} known answers right")]
