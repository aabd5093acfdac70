"""The one exception that a person is shown."""


class CaptionBotError(Exception):
    """A mistake that its reader can mend.

    The message is one sentence that says what was given, what is allowed and what to do; pages
    and the command line show it as it is, without a traceback.
    """
