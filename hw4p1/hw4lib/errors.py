"""The exceptions for what a person can mend."""


class UserError(ValueError):
    """Something that the user can mend: one line that names the file or setting, the place and the remedy."""


class TooShort(UserError, RuntimeError):
    """No transcript is as long as a prompt has to be."""
