"""Pictures of posteriors and of their checks, as arviz-plots collections.

Every function returns a `PlotCollection`, whose ``viz`` holds what was drawn by name, and shows
nothing: ``pc.savefig("a.png")``. arviz-plots is imported when the first picture is drawn.
"""

from bayes._plot_checks import plot_loo_pit as plot_loo_pit, plot_sbc as plot_sbc
from bayes._plot_forest import plot_forest as plot_forest
from bayes._plot_params import (
    plot_pair as plot_pair,
    plot_prior_posterior as plot_prior_posterior,
)
from bayes._plot_predictive import (
    plot_frontier as plot_frontier,
    plot_predictive as plot_predictive,
)
