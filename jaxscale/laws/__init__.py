"""The catalogue of laws: ``laws.chinchilla``, ``laws.get(name)``, ``laws.table()``."""

from jaxscale.laws._registry import get as get, names as names, table as table
from jaxscale.laws.chinchilla import (
    brandfonbrener as brandfonbrener,
    chinchilla as chinchilla,
    coupled_power as coupled_power,
)
from jaxscale.laws.kaplan import kaplan_nd as kaplan_nd
from jaxscale.laws.power import power_law as power_law, power_law_offset as power_law_offset
