"""The one kind of failure that is reported as a sentence instead of a traceback."""


class StackError(Exception):
    """Something that the reader of the message can do something about."""
