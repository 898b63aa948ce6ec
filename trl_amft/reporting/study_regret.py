"""What choosing a policy beforehand costs: its distance from the best one of a condition, and how soon it is there."""

from dataclasses import dataclass
from statistics import fmean

from .study_results import ORACLE, SeedMean, StudyResults, along, seed_mean


@dataclass(frozen=True)
class Regret:
    """
    Distance of a policy from the best policy of each condition.

    Args:
        by_condition (`dict[str, SeedMean]`):
            Mean over seeds, in accuracy. Negative where the policy beats what was best on other seeds.
        worst (`str`):
            Condition with the largest one.
    """

    by_condition: dict[str, SeedMean]
    worst: str


def best_on_other_seeds(results: StudyResults, condition: str, seed: int) -> str | None:
    """
    The policy with the best mean accuracy over all seeds but one.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.
        condition (`str`):
            The condition.
        seed (`int`):
            Left out, so that luck with it does not make a policy the best.

    Returns:
        `str`, *optional*: `None` if no policy has this seed and another one.
    """
    means = {}
    for policy in results.policies:
        scores = {row["seed"]: row["accuracy"] for row in results.cells.get((policy, condition), [])}
        if policy != ORACLE and seed in scores and len(scores) > 1:
            means[policy] = fmean(score for other, score in scores.items() if other != seed)
    return max(means, key=means.__getitem__) if means else None


def regrets(results: StudyResults) -> dict[str, Regret]:
    """
    Distance of every policy from the best one, seed by seed, the best one chosen on the other seeds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.

    Returns:
        `dict[str, Regret]`: by policy; those that have no condition with two seeds are not in it.
    """
    lost: dict[str, dict[str, list[float]]] = {}
    for condition in results.conditions:
        of = {
            policy: {row["seed"]: row["accuracy"] for row in results.cells.get((policy, condition), [])}
            for policy in results.policies
        }
        for seed in sorted({seed for scores in of.values() for seed in scores}):
            best = best_on_other_seeds(results, condition, seed)
            for policy, scores in of.items():
                if best is not None and seed in scores:
                    distance = of[best][seed] - scores[seed]
                    lost.setdefault(policy, {}).setdefault(condition, []).append(distance)
    found = {}
    for policy, distances in lost.items():
        means = {condition: seed_mean(values) for condition, values in distances.items()}
        found[policy] = Regret(means, max(means, key=lambda condition: means[condition].mean))
    return found


def share_that_loses(found: dict[str, Regret], points: float) -> tuple[int, int]:
    """
    How often a policy is far from the best.

    Args:
        found (`dict[str, Regret]`):
            From [`regrets`].
        points (`float`):
            Distance in accuracy from which on it counts.

    Returns:
        `tuple[int, int]`: pairs of policy and condition that lose so much, and all pairs.
    """
    pairs = [mean for policy, regret in found.items() if policy != ORACLE for mean in regret.by_condition.values()]
    return sum(mean.mean >= points for mean in pairs), len(pairs)


def rollouts_until(results: StudyResults, policy: str, condition: str, accuracy: float) -> float | None:
    """
    Rollouts after which the held-out curve, a mean over seeds, has first reached an accuracy.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.
        policy (`str`):
            The policy.
        condition (`str`):
            The condition.
        accuracy (`float`):
            What is to be reached.

    Returns:
        `float`, *optional*: `None` if it never was, or there is no run.
    """
    rows = results.cells.get((policy, condition), [])
    if not rows:
        return None
    curves = [[value for _, value in row["accuracy_curve"]] for row in rows]
    positions, _ = along(rows[0]["accuracy_curve"], rows[0]["marks"], 1)
    means = [fmean(values) for values in zip(*curves, strict=True)]
    reached = (position for position, mean in zip(positions, means, strict=True) if mean >= accuracy)
    return next(reached, None)
