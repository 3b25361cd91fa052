"""The Bayesian layer: full posteriors of scaling laws with NumPyro.

Also reachable, and usually written, as ``from jaxscale import bayes``.

- A model: `_prior`, `_likelihood`, `_model` (the NumPyro program of one data set), `_pooling` (of
  many that are alike).
- Sampling it: `_precondition` and `_transport` (coordinates), `_target`, `_nuts` (lanes side by
  side), `_many`, `_sample`, `_hierarchical`, `_approximate`.
- What comes out: `_posterior`, `_hierarchy`, `_groups` (the DataTree), `_scatter` (a new run),
  `_diagnose` (the verdict).
- Whether to believe it: `_check`, `_discrepancy`, `_uniform`, `_sbc`, `_interval_method`.
- Which model: `_compare`, `_folds`, `_scoring`, `_average`. Pictures: `_plots`.
"""

from bayes._approximate import approximate as approximate
from bayes._check import Check as Check, check as check
from bayes._compare import Comparison as Comparison, compare as compare
from bayes._hierarchical import hierarchical as hierarchical
from bayes._hierarchy import Hierarchy as Hierarchy, Member as Member
from bayes._interval_method import (
    PosteriorMethod as PosteriorMethod,
    posterior_method as posterior_method,
)
from bayes._likelihood import (
    BetaBinomial as BetaBinomial,
    Binomial as Binomial,
    Likelihood as Likelihood,
    StudentT as StudentT,
)
from bayes._model import Model as Model, model as model
from bayes._plots import (
    plot_forest as plot_forest,
    plot_frontier as plot_frontier,
    plot_loo_pit as plot_loo_pit,
    plot_pair as plot_pair,
    plot_predictive as plot_predictive,
    plot_prior_posterior as plot_prior_posterior,
    plot_sbc as plot_sbc,
)
from bayes._posterior import Posterior as Posterior
from bayes._prior import prior as prior, published_priors as published_priors
from bayes._sample import sample as sample
from bayes._sbc import SBC as SBC, sbc as sbc
