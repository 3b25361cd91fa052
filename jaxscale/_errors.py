"""The errors a user can meet. Each message is one sentence that says what to do."""


class JaxscaleError(ValueError):
    """Base class: the request cannot be answered honestly; the message says why."""


class DataError(JaxscaleError):
    """The table of runs is not usable; the message names file, column and row."""


class LawError(JaxscaleError):
    """A law is declared inconsistently, unknown, or used outside its definition."""


class IdentificationError(JaxscaleError):
    """The runs cannot determine the parameters; the message names them."""


class FitError(JaxscaleError):
    """No usable optimum was found; the message says what was tried."""
