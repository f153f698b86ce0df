"""The two ways in which a program of ours ends early on purpose."""


class UserError(Exception):
    """Something that the user can mend: one line, printed with exit status 2."""


class Stopped(Exception):
    """A training that a signal (its number) stopped, with its state saved."""
