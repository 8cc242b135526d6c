"""The Pyro distributions that a partly observed row needs."""

from pyro_mnar.distributions.missing_entries import Columns, Levels, MissingEntries, OnLine, Weighed, codes_of, joined

__all__ = ["Columns", "Levels", "MissingEntries", "OnLine", "Weighed", "codes_of", "joined"]
