"""The models as a scikit-learn imputer.

The one room that needs scikit-learn when it is imported, since the class is scikit-learn's own; the package's root
loads it when ``MNARImputer`` is first used.
"""

from pyro_mnar.estimator.imputer import MNARImputer

__all__ = ["MNARImputer"]
