"""Tables of training runs: one measured by this project, others fetched from their source.

`load_*` reads what ships with the package. `fetch_*` downloads a file once from a fixed commit,
checks its hash and keeps it in the user's cache. Where there is no network, ``$JAXSCALE_DATA``
names a folder, or the address of one, that holds the files under their original names. `table`
lists what there is.
"""

from jaxscale.datasets._fetch import (
    fetch_chinchilla as fetch_chinchilla,
    fetch_clark_routed as fetch_clark_routed,
    fetch_misfitting as fetch_misfitting,
    fetch_openclip as fetch_openclip,
    fetch_step_law_dense as fetch_step_law_dense,
    fetch_step_law_moe as fetch_step_law_moe,
)
from jaxscale.datasets._table import get as get, names as names, table as table
from jaxscale.datasets._tiny_lm import (
    load_tiny_lm as load_tiny_lm,
    load_tiny_lm_sweep as load_tiny_lm_sweep,
)
