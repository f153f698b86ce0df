"""The exceptions with which a program ends early on purpose."""


class UserError(ValueError):
    """Something that the user can mend: one line that names the file or setting and the remedy."""


class TooShort(UserError, RuntimeError):
    """No transcript is as long as a prompt has to be."""


class Stopped(Exception):
    """A training that was asked to stop, by a signal of that number, with its state saved.

    Further arguments are those with which the program goes on.
    """


class Interrupted(KeyboardInterrupt):
    """A signal of that number, Ctrl-C or another that ends a program."""
