"""``python -m jaxscale``: the command line."""

from jaxscale._cli import main

main()
