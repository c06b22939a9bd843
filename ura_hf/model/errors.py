"""The one exception that stands for a mistake the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong input, named in one clear sentence that says what came, what is expected and what to do.

    The command line prints the message and exits with code 2; the page shows it as it is.
    """
