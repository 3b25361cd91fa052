"""Tables of training runs: one measured by this project, others fetched from their source."""

from jaxscale.datasets._load import chinchilla_epoch as chinchilla_epoch, tiny_lm as tiny_lm
