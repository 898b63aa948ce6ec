"""Rewards that are built around the reward of a task."""

from .exploration import ExplorationReward


__all__ = ["ExplorationReward"]
