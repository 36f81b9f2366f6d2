"""The two kinds of failure that the event runtime tells apart, and the shape of a complaint.

Who raises decides: a `PermanentError` will fail the same way for ever and its message goes to the
dead-letter topic; a `TransientError` is an outage elsewhere, and the message waits for it to pass.
Anything else is a bug and gets a few tries (see `shared.kafka.consumer`).
"""


class TocsinError(Exception):
    """Base of every error that Tocsin raises on purpose."""


class PermanentError(TocsinError):
    """The same input will never succeed."""


class TransientError(TocsinError):
    """Something outside is unavailable; the same input may succeed later."""


class InvalidInputError(PermanentError):
    """Input that breaks its contract, told so that its sender can mend it.

    Parameters
    ----------
    field
        What is wrong, in the sender's own terms (`event.far`, `UNIQ`, `--port`).
    value
        What stood there; long values are cut.
    expected
        What would have been accepted.
    """

    MAX_VALUE_CHARACTERS = 120
    # Enough to recognise a value in a log line; a 50 MB payload must not become a 50 MB message.

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = _shortened(value, self.MAX_VALUE_CHARACTERS)
        self.expected = expected
        super().__init__(f"{field} is {self.value}; expected {expected}")

    def __reduce__(self) -> tuple[type["InvalidInputError"], tuple[str, object, str]]:
        # Exceptions cross from the process pool by pickle, which replays `args` by default.
        return type(self), (self.field, self.value, self.expected)


def _shortened(value: object, limit: int) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
