"""What an error message must look like."""


def one_line(error, *parts):
    """The whole message is one line and holds all parts: field, value, remedy."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, (part, message)
