"""The systems that the paper compares, behind interfaces so small that a table of results is a loop."""

from pyro_mnar.baselines.imputers.deletion import CompleteCases, PairwiseDeletion
from pyro_mnar.baselines.imputers.filling import ScikitLearn, Zero, knn, mean, mice, miss_forest, regression
from pyro_mnar.baselines.imputers.low_rank import LowRankJoint
from pyro_mnar.baselines.imputers.mixture_start import (
    Averaged,
    normal_mixture_model,
    normal_mixture_models,
    start_normal_mixture,
)
from pyro_mnar.baselines.imputers.normal import FullInformationML
from pyro_mnar.baselines.imputers.pairs import (
    Fitted,
    gina,
    gina_self_masking,
    gina_standard_normal,
    i_not_miwae,
    miwae,
    not_miwae_known_sign,
    not_miwae_linear,
    not_miwae_mlp,
    not_miwae_ppca,
    not_miwae_ppca_known_sign,
    not_miwae_self_masking,
    pvae,
    pvae_without_weights,
    self_masking,
)
from pyro_mnar.baselines.imputers.self_masked_mixture import (
    SelfMaskedMixture,
    normal_mixtures_common_sign,
    normal_mixtures_known_sign,
)
from pyro_mnar.baselines.imputers.thresholds import bounded_by_thresholds
from pyro_mnar.baselines.imputers.validation import extrapolation_errors, hide_further
from pyro_mnar.baselines.imputers.weighting import InverseProbabilityWeighting
from pyro_mnar.baselines.protocol import Imputer, MomentEstimator, Moments, RatingPredictor
from pyro_mnar.baselines.ratings.autorec import AutoRec
from pyro_mnar.baselines.ratings.factorization import (
    Factorization,
    deconfounded_pmf,
    ipw_pmf,
    pmf,
    pmf_mar,
    pmf_mnar,
)
from pyro_mnar.baselines.ratings.mixture import RatingMixture, cpt_v, logit_vd
from pyro_mnar.baselines.ratings.oracle import OracleTest
from pyro_mnar.baselines.ratings.propensities import logistic_propensities, naive_bayes_propensities
from pyro_mnar.baselines.ratings.rating_networks import (
    RatingNetwork,
    rating_gina,
    rating_miwae,
    rating_not_miwae,
    rating_pvae,
    rating_pvae_without_weights,
)
from pyro_mnar.baselines.ratings.response_networks import (
    ResponseNetwork,
    response_gina,
    response_not_miwae,
    response_pvae,
)

__all__ = [
    "AutoRec",
    "Averaged",
    "CompleteCases",
    "Factorization",
    "Fitted",
    "FullInformationML",
    "Imputer",
    "InverseProbabilityWeighting",
    "LowRankJoint",
    "MomentEstimator",
    "Moments",
    "OracleTest",
    "PairwiseDeletion",
    "RatingMixture",
    "RatingNetwork",
    "RatingPredictor",
    "ResponseNetwork",
    "ScikitLearn",
    "SelfMaskedMixture",
    "Zero",
    "bounded_by_thresholds",
    "cpt_v",
    "deconfounded_pmf",
    "extrapolation_errors",
    "gina",
    "gina_self_masking",
    "gina_standard_normal",
    "hide_further",
    "i_not_miwae",
    "ipw_pmf",
    "knn",
    "logistic_propensities",
    "logit_vd",
    "mean",
    "mice",
    "miss_forest",
    "miwae",
    "naive_bayes_propensities",
    "normal_mixture_model",
    "normal_mixture_models",
    "normal_mixtures_common_sign",
    "normal_mixtures_known_sign",
    "not_miwae_known_sign",
    "not_miwae_linear",
    "not_miwae_mlp",
    "not_miwae_ppca",
    "not_miwae_ppca_known_sign",
    "not_miwae_self_masking",
    "pmf",
    "pmf_mar",
    "pmf_mnar",
    "pvae",
    "pvae_without_weights",
    "rating_gina",
    "rating_miwae",
    "rating_not_miwae",
    "rating_pvae",
    "rating_pvae_without_weights",
    "regression",
    "response_gina",
    "response_not_miwae",
    "response_pvae",
    "self_masking",
    "start_normal_mixture",
]
