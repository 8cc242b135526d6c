"""What a fit says of itself, in words."""

from pyro_mnar.summaries.fit_summary import FitSummary, summarise

__all__ = ["FitSummary", "summarise"]
