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


def best_policy(results: StudyResults, condition: str, without: int | None = None) -> str | None:
    """
    The policy with the best mean accuracy in a condition, of those that were run with most seeds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.
        condition (`str`):
            The condition.
        without (`int`, *optional*):
            A seed to leave out, so that luck with it does not make a policy the best.

    Returns:
        `str`, *optional*: `None` if no policy has two seeds, or none of those with most has the one that is left out.
    """
    found = {policy: _by_seed(results, policy, condition) for policy in results.policies if policy != ORACLE}
    most = max(map(len, found.values()), default=0)
    means = {
        policy: fmean(score for seed, score in scores.items() if seed != without)
        for policy, scores in found.items()
        if len(scores) == most > 1 and (without is None or without in scores)
    }
    return max(means, key=means.__getitem__) if means else None


def _by_seed(results: StudyResults, policy: str, condition: str) -> dict[int, float]:
    return {row["seed"]: row["accuracy"] for row in results.cells.get((policy, condition), [])}


def regrets(results: StudyResults, hindsight: bool = False) -> dict[str, Regret]:
    """
    Distance of every policy from the best one, seed by seed.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.
        hindsight (`bool`, *optional*, defaults to `False`):
            Whether the best one is that with the best mean over all seeds. Otherwise it is chosen on the other seeds,
            which does not count the loss of a policy that fails with one seed only: the others make it the best.

    Returns:
        `dict[str, Regret]`: by policy; those that have no condition with two seeds are not in it.
    """
    lost: dict[str, dict[str, list[float]]] = {}
    for condition in results.conditions:
        of = {policy: _by_seed(results, policy, condition) for policy in results.policies}
        for seed in sorted({seed for scores in of.values() for seed in scores}):
            best = best_policy(results, condition, None if hindsight else seed)
            for policy, scores in of.items():
                if best is not None and seed in scores and seed in of[best]:
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


def end_of_curve(results: StudyResults, policy: str, condition: str) -> float | None:
    """
    The last point of the held-out curve, a mean over seeds.

    Args:
        results ([`~trl_amft.reporting.study_results.StudyResults`]):
            Results of a study.
        policy (`str`):
            The policy.
        condition (`str`):
            The condition.

    Returns:
        `float`, *optional*: `None` if there is no run, or it has no curve.
    """
    rows = results.cells.get((policy, condition), [])
    return fmean(row["accuracy_curve"][-1][1] for row in rows) if rows and rows[0]["accuracy_curve"] else None


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
