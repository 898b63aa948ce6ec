"""
The score of a run as a quadratic in its domain weights, fitted to pilot runs (MoDoMoDo, arXiv 2505.24871).

On the simplex, where weights sum to 1, every quadratic is Σ_{i ≤ j} c_ij w_i w_j: m (m + 1) / 2 coefficients for m
domains. Fewer pilots than that, or as many, fit any noise, so they are refused instead of answered with an optimum.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np


MOST_DOMAINS = 12


class Fit(NamedTuple):
    """
    Args:
        coefficients (`numpy.ndarray` of shape (m (m + 1) / 2,)):
            c_ij in the order of [`products`].
        r_squared (`float`):
            Share of the variance of held-out pilots that is predicted, over all folds; may be negative.
    """

    coefficients: np.ndarray
    r_squared: float


def num_coefficients(domains: int) -> int:
    """Coefficients of a quadratic on the simplex of `domains` weights."""
    return domains * (domains + 1) // 2


def pilots_needed(domains: int, folds: int) -> int:
    """The smallest number of pilots with which all parts that are fitted in cross-validation are determined."""
    count = num_coefficients(domains) + 1
    while count - -(-count // folds) < num_coefficients(domains):
        count += 1
    return max(count, folds)


def pilot_weights(domains: int, count: int, seed: int) -> np.ndarray:
    """
    Weights of pilot runs: each domain alone, each pair in halves, which together determine a quadratic, and then
    uniform draws from the simplex.

    Args:
        domains (`int`):
            m ≥ 2.
        count (`int`):
            Number of pilots.
        seed (`int`):
            Of the draws.

    Returns:
        `numpy.ndarray` of shape (count, m): rows sum to 1.
    """
    corners = np.eye(domains)
    halves = [(corners[i] + corners[j]) / 2 for i, j in combinations(range(domains), 2)]
    fixed = np.array([*corners, *halves])[:count]
    drawn = np.random.default_rng(seed).dirichlet(np.ones(domains), size=count - len(fixed))
    return np.concatenate([fixed, drawn])


def products(weights: np.ndarray) -> np.ndarray:
    """
    Args:
        weights (`numpy.ndarray` of shape (n, m)):
            Rows sum to 1.

    Returns:
        `numpy.ndarray` of shape (n, m (m + 1) / 2): w_i w_j for i ≤ j.
    """
    rows, columns = np.triu_indices(weights.shape[1])
    return weights[:, rows] * weights[:, columns]


def fit_surrogate(weights: np.ndarray, scores: np.ndarray, folds: int = 5, seed: int = 0) -> Fit:
    """
    Least squares, with cross-validation.

    Args:
        weights (`numpy.ndarray` of shape (n, m)):
            Of the pilots.
        scores (`numpy.ndarray` of shape (n,)):
            Of the pilots.
        folds (`int`, *optional*, defaults to `5`):
            k of the cross-validation, ≥ 2.
        seed (`int`, *optional*, defaults to `0`):
            Of the division into folds.

    Returns:
        [`Fit`]

    Raises:
        `ValueError`: if there are too few pilots, or they lie so that they do not determine a quadratic.
    """
    count, domains = weights.shape
    needed, terms = pilots_needed(domains, folds), num_coefficients(domains)
    if count < needed:
        raise ValueError(
            f"{count} pilots for {domains} domains: a quadratic has {terms} coefficients, and {folds}-fold "
            f"cross-validation of it needs {needed} pilots; run {needed - count} more"
        )
    design = products(weights)
    if np.linalg.matrix_rank(design) < terms:
        raise ValueError(
            f"the weights of {count} pilots do not determine the {terms} coefficients of a quadratic in {domains} "
            "domains: give them weights that differ, as the command `plan` does"
        )
    errors = np.empty(count)
    order = np.random.default_rng(seed).permutation(count)
    for held_out in np.array_split(order, folds):
        fitted = np.setdiff1d(order, held_out)
        errors[held_out] = scores[held_out] - design[held_out] @ _solve(design[fitted], scores[fitted])
    spread = ((scores - scores.mean()) ** 2).sum()
    r_squared = 1.0 - (errors**2).sum() / spread if spread > 0.0 else -np.inf
    return Fit(_solve(design, scores), float(r_squared))


def _solve(design: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(design, scores, rcond=None)[0]


def best_weights(coefficients: np.ndarray, domains: int) -> np.ndarray:
    """
    The weights with the highest score, exactly: a maximum lies inside some face of the simplex, where the gradient
    along the face is 0, so every face is looked at.

    Args:
        coefficients (`numpy.ndarray` of shape (m (m + 1) / 2,)):
            Of a [`Fit`].
        domains (`int`):
            m, at most `MOST_DOMAINS`.

    Returns:
        `numpy.ndarray` of shape (m,): at least 0, sum 1.
    """
    quadratic = np.zeros((domains, domains))
    quadratic[np.triu_indices(domains)] = coefficients / 2
    quadratic = quadratic + quadratic.T
    best, highest = np.eye(domains)[0], -np.inf
    for size in range(1, domains + 1):
        for face in combinations(range(domains), size):
            system = np.ones((size + 1, size + 1))
            system[:size, :size], system[size, size] = 2 * quadratic[np.ix_(face, face)], 0.0
            if np.linalg.matrix_rank(system) <= size:
                continue  # A line of equal scores, which ends on a smaller face.
            inside = np.linalg.solve(system, np.append(np.zeros(size), 1.0))[:size]
            if (inside < 0.0).any():
                continue
            weights = np.zeros(domains)
            weights[list(face)] = inside
            score = float(weights @ quadratic @ weights)
            if score > highest + 1e-12:
                best, highest = weights, score
    return best
