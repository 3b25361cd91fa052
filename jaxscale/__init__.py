"""jaxscale: a differentiable solver for neural scaling laws."""

from jaxscale import (
    datasets as datasets,
    flops as flops,
    laws as laws,
    plot as plot,
    published as published,
)
from jaxscale._allocate import Frontier as Frontier, allocate as allocate
from jaxscale._errors import (
    DataError as DataError,
    FitError as FitError,
    IdentificationError as IdentificationError,
    JaxscaleError as JaxscaleError,
    LawError as LawError,
)
from jaxscale._fit import Fit as Fit, fit as fit
from jaxscale._law import Law as Law, law as law
from jaxscale._levenberg_marquardt import levenberg_marquardt as levenberg_marquardt
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
from jaxscale._param import (
    Param as Param,
    interval as interval,
    positive as positive,
    real as real,
    unit as unit,
)
from jaxscale._predict import Prediction as Prediction, predict as predict
from jaxscale._restarts import Restarts as Restarts
from jaxscale._runs import Runs as Runs, drop_top as drop_top, read_csv as read_csv
from jaxscale._save import load as load, save as save
from jaxscale._starts import Grid as Grid, grid as grid, hoffmann_grid as hoffmann_grid
from jaxscale._verdict import Verdict as Verdict

__version__ = "0.1.0"
