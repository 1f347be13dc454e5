"""The one exception that means "the input is wrong, not the program"."""


class InputError(ValueError):
    """A file, a key or an argument given by the user is wrong.

    The message is one sentence that names the file or key, says what was found and what was expected. Commands print it
    without a traceback and exit with status 2.
    """
