"""jaxscale: a differentiable solver for neural scaling laws."""

from jaxscale import (
    datasets as datasets,
    flops as flops,
    folds as folds,
    laws as laws,
    plot as plot,
    published as published,
    scores as scores,
)
from jaxscale._agree import Agreement as Agreement, agree as agree
from jaxscale._allocate import allocate as allocate
from jaxscale._approach import Approach as Approach
from jaxscale._architectures import (
    Architectures as Architectures,
    architectures as architectures,
)
from jaxscale._are_grid import AREGrid as AREGrid, are_grid as are_grid
from jaxscale._audit import Audit as Audit, audit as audit
from jaxscale._average import average as average
from jaxscale._backtest import backtest as backtest
from jaxscale._backtest_result import Backtest as Backtest
from jaxscale._belief import Guess as Guess
from jaxscale._bootstrap import bootstrap as bootstrap
from jaxscale._borrow import Borrowing as Borrowing, borrowing as borrowing
from jaxscale._budget import Budget as Budget, budget_for as budget_for
from jaxscale._calibrate import Calibration as Calibration, calibrate as calibrate
from jaxscale._candidates import (
    candidates as candidates,
    isoflop_design as isoflop_design,
    ray_design as ray_design,
)
from jaxscale._capabilities import Capabilities as Capabilities, capabilities as capabilities
from jaxscale._chain import Chain as Chain, chain as chain
from jaxscale._checklist import Checklist as Checklist, checklist as checklist
from jaxscale._clusters import ICC as ICC, cluster_codes as cluster_codes, icc as icc
from jaxscale._compare import compare as compare
from jaxscale._comparison import Comparison as Comparison
from jaxscale._conformal import (
    conformal as conformal,
    extrapolation_residuals as extrapolation_residuals,
)
from jaxscale._correction_path import (
    CorrectionPath as CorrectionPath,
    correction_path as correction_path,
)
from jaxscale._crossing import Crossing as Crossing, crossing as crossing
from jaxscale._decision import Decisions as Decisions, decision_accuracy as decision_accuracy
from jaxscale._design_noise import DesignNoise as DesignNoise
from jaxscale._draws import Draws as Draws
from jaxscale._early_stop import EarlyStop as EarlyStop, early_stop as early_stop
from jaxscale._envelope import envelope as envelope
from jaxscale._errors import (
    DataError as DataError,
    FitError as FitError,
    IdentificationError as IdentificationError,
    JaxscaleError as JaxscaleError,
    LawError as LawError,
)
from jaxscale._evaluate_designs import (
    DesignStudy as DesignStudy,
    evaluate_designs as evaluate_designs,
)
from jaxscale._fit import Fit as Fit, fit as fit
from jaxscale._frontier import Frontier as Frontier
from jaxscale._implicit import refit as refit
from jaxscale._influence import Influence as Influence, influence as influence
from jaxscale._interval_method import IntervalMethod as IntervalMethod
from jaxscale._intervals import Intervals as Intervals, intervals as intervals
from jaxscale._isoflop import isoflop as isoflop
from jaxscale._isoflop_bias import IsoflopBias as IsoflopBias, isoflop_bias as isoflop_bias
from jaxscale._laplace import Laplace as Laplace, laplace as laplace
from jaxscale._law import Input as Input, Law as Law, law as law
from jaxscale._levenberg_marquardt import levenberg_marquardt as levenberg_marquardt
from jaxscale._limit import Limit as Limit, at_least as at_least, at_most as at_most
from jaxscale._mesh import use_mesh as use_mesh
from jaxscale._multiverse import multiverse as multiverse
from jaxscale._nested import (
    LikelihoodRatio as LikelihoodRatio,
    likelihood_ratio as likelihood_ratio,
)
from jaxscale._objective import (
    Gaussian as Gaussian,
    Huber as Huber,
    LogGaussian as LogGaussian,
    LogHuber as LogHuber,
    LogL1 as LogL1,
    LogQuantile as LogQuantile,
    LogStudentT as LogStudentT,
    Objective as Objective,
)
from jaxscale._outcomes import Binomial as Binomial, LogScore as LogScore
from jaxscale._param import (
    Param as Param,
    interval as interval,
    positive as positive,
    real as real,
    unit as unit,
)
from jaxscale._pareto import Pareto as Pareto, time_compute_pareto as time_compute_pareto
from jaxscale._plan import Plan as Plan, plan as plan
from jaxscale._predict import Prediction as Prediction, predict as predict
from jaxscale._price import Price as Price, price as price
from jaxscale._profile import (
    Profile as Profile,
    Surface as Surface,
    profile as profile,
    profile2d as profile2d,
    profiles as profiles,
)
from jaxscale._progress import progress as progress
from jaxscale._quantity import (
    Quantity as Quantity,
    loss_at as loss_at,
    optimal_D as optimal_D,
    optimal_N as optimal_N,
)
from jaxscale._recipes import Recipes as Recipes, compare_recipes as compare_recipes
from jaxscale._regret import Regret as Regret, regret as regret
from jaxscale._report import Report as Report, report as report
from jaxscale._restarts import Restarts as Restarts
from jaxscale._run_noise import RunNoise as RunNoise
from jaxscale._runs import Runs as Runs, drop_top as drop_top
from jaxscale._save import load as load, save as save
from jaxscale._serve import Serving as Serving, serve as serve
from jaxscale._split import split_top as split_top, top as top
from jaxscale._spread import Multiverse as Multiverse, Spread as Spread
from jaxscale._starts import Grid as Grid, grid as grid, hoffmann_grid as hoffmann_grid
from jaxscale._surface import surface as surface
from jaxscale._table import read_csv as read_csv
from jaxscale._verdict import Finding as Finding, Verdict as Verdict

__version__ = "0.1.0"
