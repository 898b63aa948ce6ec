"""What is checked before a run: versions, machine, recipe, memory, data and grader. Each problem with its remedy."""

from .findings import NOTE, OK, PROBLEM, Finding


__all__ = ["NOTE", "OK", "PROBLEM", "Finding"]
