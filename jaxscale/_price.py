"""price(): FLOPs in hours of devices, days and money."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from jaxscale._errors import DataError
from jaxscale._tables import html, text


@dataclasses.dataclass(frozen=True)
class Price:
    """What FLOPs cost.

    Attributes:
        flop: FLOPs.
        device_hours: hours of one device.
        days: days on all devices together.
        money: in the currency of the price per hour, or None without one.
    """

    flop: Any
    device_hours: Any
    days: Any
    money: Any = None

    def frame(self) -> pd.DataFrame:
        """One row per number of FLOPs."""
        columns = {"flop": self.flop, "device_hours": self.device_hours, "days": self.days}
        columns |= {} if self.money is None else {"money": self.money}
        return pd.DataFrame({name: np.ravel(np.asarray(x)) for name, x in columns.items()})

    def __repr__(self) -> str:
        return text(self.frame())

    def _repr_html_(self) -> str:
        return html("Price", self.frame(), ())


def price(
    flop: Any,
    *,
    device_flops: Any,
    utilization: Any,
    price_per_hour: Any = None,
    devices: Any = 1,
) -> Price:
    """device hours = flop / (device_flops utilization 3600), days = device hours / (24 devices)

    Nothing is known here about any vendor: look up the peak of your device in the precision that
    you train in, and measure its utilization, which for training large models is a third to a half
    and in use much less. Everything broadcasts.

    Args:
        flop: FLOPs, such as those of `budget_for` and `serve`.
        device_flops: peak FLOPs per second of one device.
        utilization: share of the peak that is reached, of model FLOPs; above 0, at most 1.
        price_per_hour: price of one device for an hour, in any currency.
        devices: number of devices that work at once.

    Raises:
        DataError: for a number that is not positive, or a utilization above 1.

    Example:
        >>> price(1e24, device_flops=1e15, utilization=0.4, price_per_hour=2.0, devices=1024)
    """
    numbers = {
        "flop": flop,
        "device_flops": device_flops,
        "utilization": utilization,
        "devices": devices,
    }
    numbers |= {} if price_per_hour is None else {"price_per_hour": price_per_hour}
    arrays = {name: _positive(name, value) for name, value in numbers.items()}
    if (arrays["utilization"] > 1).any():
        raise DataError(f"utilization is a share of the peak, at most 1, got {utilization}")
    speed = arrays["device_flops"] * arrays["utilization"]
    hours = arrays["flop"] / (speed * 3600)
    money = hours * arrays["price_per_hour"] if price_per_hour is not None else None
    days = hours / (24 * arrays["devices"])
    wide_flop, wide_hours, wide_days = np.broadcast_arrays(arrays["flop"], hours, days)
    return Price(wide_flop, wide_hours, wide_days, money)


def _positive(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, float)
    if not (np.isfinite(array) & (array > 0)).all():
        raise DataError(f"{name} must be positive, got {value}")
    return array
