"""What to ask next."""

from pyro_mnar.acquisition.reward import information_reward, next_best
from pyro_mnar.acquisition.simulation import InformationCurve, simulate_acquisition

__all__ = ["InformationCurve", "information_reward", "next_best", "simulate_acquisition"]
