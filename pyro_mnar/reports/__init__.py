"""What was assumed, done and found, as a page to hand on."""

from pyro_mnar.reports.trials import report_trial
from pyro_mnar.reports.written import Report, report

__all__ = ["Report", "report", "report_trial"]
