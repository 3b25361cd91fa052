"""Tables of training runs: one measured by this project, others fetched from their source."""

from jaxscale.datasets._load import chinchilla_epoch as chinchilla_epoch
from jaxscale.datasets._tiny_lm import tiny_lm as tiny_lm, tiny_lm_sweep as tiny_lm_sweep
