"""What stands in the way of an evaluation."""


class EvaluationError(ValueError):
    """The message is one line that names what is wrong and what to do about it."""


def unanswerable(name: str, number: int, reason: str) -> EvaluationError:
    """Of set `name`, problem `number`, counted from 1, leaves no room for an answer."""
    return EvaluationError(
        f"set {name!r}, problem {number}: {reason}; drop that problem (by --limit, or from a copy of the set in "
        "--data_dir), or take a model with a longer context"
    )
