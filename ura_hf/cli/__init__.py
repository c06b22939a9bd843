"""The command `uranet`, one module a group of commands. What takes time to import is imported when a command runs."""

from .main import main

__all__ = ["main"]
