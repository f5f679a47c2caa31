"""The one kind of failure that is reported as a sentence instead of a traceback.

Guarantees: each message says what is wrong and, where somebody can mend it, how.
"""


class StackError(Exception):
    """Something that the reader of the message can do something about."""
