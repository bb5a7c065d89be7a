"""The one error that means "what you gave us is wrong", as opposed to a bug of ours."""


class InputError(ValueError):
    """Bad input: one sentence that names the argument or file, what was expected and what came.

    The command line prints the sentence on standard error and exits with code 2.
    """
