"""Pictures of fits, of their uncertainty and of what follows from them.

Every function draws on the Axes ``ax`` (None: of a new figure), returns it and shows nothing.
Matplotlib is imported when the first picture is drawn, not before.
"""

from jaxscale.plot._approaches import agreement as agreement, isoflop_fits as isoflop_fits
from jaxscale.plot._choices import influence as influence, specification as specification
from jaxscale.plot._extrapolation import backtest as backtest, crossing as crossing
from jaxscale.plot._fit import (
    isoflop as isoflop,
    residuals as residuals,
    restarts as restarts,
    summary as summary,
)
from jaxscale.plot._frontier import frontier as frontier
from jaxscale.plot._intervals import coverage as coverage, intervals as intervals
from jaxscale.plot._plan import plan as plan
from jaxscale.plot._predictions import predictions as predictions
from jaxscale.plot._profile import profile as profile, profile2d as profile2d
from jaxscale.plot._regret import regret as regret
