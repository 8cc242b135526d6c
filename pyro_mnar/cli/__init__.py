"""The command line."""

from pyro_mnar.cli.command_line import main

__all__ = ["main"]
