"""``from jaxscale import bayes``: the Bayesian layer under the name that documentation uses."""

from bayes import Posterior as Posterior, model as model, prior as prior, sample as sample
