"""Alias of :mod:`pyro_mnar.acquisition.question_order`, the name by which notebooks import it."""

from pyro_mnar.acquisition.question_order import LevelChanges, clustered_p_value, level_changes

__all__ = ["LevelChanges", "clustered_p_value", "level_changes"]
