"""The Bayesian layer: full posteriors of scaling laws with NumPyro.

Also reachable, and usually written, as ``from jaxscale import bayes``.
"""

from bayes._model import model as model, prior as prior
from bayes._sample import Posterior as Posterior, sample as sample
