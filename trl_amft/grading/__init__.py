"""Grading of final answers, for rewards and evaluation alike."""

from .extraction import final_answer, gold_answer
from .grader import Grader, Verdict, default_grader
from .rewards import maths_reward


__all__ = ["Grader", "Verdict", "default_grader", "final_answer", "gold_answer", "maths_reward"]
