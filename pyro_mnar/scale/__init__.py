"""Past one machine: tables in Parquet files that memory does not hold, training by Lightning, imputation by Dask.

Needs the extra ``[scale]``: ``pip install 'pyro-mnar[scale]'``.
"""

from pyro_mnar.scale.parquet import ParquetRows, parquet_schema
from pyro_mnar.scale.partitions import impute_partitions, mean_partitions
from pyro_mnar.scale.training import MNARModule

__all__ = ["MNARModule", "ParquetRows", "impute_partitions", "mean_partitions", "parquet_schema"]
