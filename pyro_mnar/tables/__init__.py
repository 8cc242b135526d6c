"""The user's data to standardised tensors, and back."""

from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.constraints import InOrder, SumsTo
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table

__all__ = ["Batch", "InOrder", "Schema", "SumsTo", "Table"]
