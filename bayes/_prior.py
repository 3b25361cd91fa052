"""Priors: weakly informative by default, replaceable by name, and from the literature."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist

import jaxscale as js


def prior(param: js.Param) -> dist.Distribution:
    """Weakly informative prior of a parameter's unconstrained coordinate, in reference units.

    Normal at the middle of the start range, with standard deviation `prior_scale`: for a positive
    parameter a factor of about three either way at one standard deviation.
    """
    return dist.Normal(np.asarray(param.start(0.5), float), float(param.prior_scale))


def published_priors(
    entry: str | js.published.Published, *, discount: float
) -> dict[str, dist.Distribution]:
    """Published parameters as priors, each believed to within a stated share.

    A positive parameter gets ``LogNormal(log value, log(1 + discount))``, a real one
    ``Normal(value, discount |value|)``: a discount of 0.2 says that the truth for the new runs
    lies within about 20% of the print with a probability of two thirds. Standard errors that were
    printed describe other runs, so that they are not used.

    Args:
        entry: a name from `jaxscale.published`, or one of its entries. The new runs must count
            what it counts: see its ``units``.
        discount: relative width, positive.

    Example:
        >>> sample(fit, priors=published_priors("besiroglu_2024", discount=0.3), key=key)
    """
    if not discount > 0:
        raise js.DataError(f"discount must be a positive share, such as 0.3, got {discount}")
    found = js.published.get(entry) if isinstance(entry, str) else entry
    return {name: _near(param, found.params[name], discount) for name, param in found.law.params}


def _near(param: js.Param, value: float, discount: float) -> dist.Distribution:
    if param.support == "positive":
        return dist.LogNormal(np.log(value), np.log1p(discount))
    width = discount * abs(value)
    if param.support == "interval":
        return dist.TruncatedNormal(value, width, low=param.lower, high=param.upper)
    return dist.Normal(value, width)


def check_priors(given: Mapping[str, Any], known: tuple[str, ...], of: js.Law) -> None:
    """Refuse priors of nothing, and what is no continuous distribution of one number.

    Raises:
        LawError: for a name that the model does not have.
        DataError: for something that is no usable distribution.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise js.LawError(
            f"the model of law {of.name!r} has no parameter {', '.join(unknown)}; it has "
            f"{', '.join(known)}"
        )
    for name, chosen in given.items():
        usable = isinstance(chosen, dist.Distribution) and not chosen.support.is_discrete
        if not usable or chosen.batch_shape or chosen.event_shape:
            raise js.DataError(
                f"the prior of {name} must be a continuous NumPyro distribution of one number, "
                f"such as numpyro.distributions.Normal(0.35, 0.1), not {chosen!r}"
            )
