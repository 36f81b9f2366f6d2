"""Dispersion: a burst arrives later at lower frequencies; at infinite frequency it would arrive with light."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike

from shared.errors import InvalidInputError

K_DM_S_MHZ2 = 1e4 / 2.41
# s MHz^2 per (pc cm^-3). The conventional value, exact by agreement (Manchester & Taylor 1972; Kulkarni 2020,
# arXiv:2007.02886, section 2): dispersion measures are published with it, so delays must be computed with it.


@dataclass(frozen=True)
class DedispersedTime:
    """A time of arrival at infinite frequency, with its standard error."""

    time: datetime
    error_s: float


def dispersion_delay_s(dm_pc_cm3: ArrayLike, frequency_mhz: ArrayLike) -> np.ndarray:
    """Return how much later than at infinite frequency a burst arrives (s): K DM / frequency^2.

    Lorimer & Kramer 2005, Handbook of Pulsar Astronomy, equation 4.7.
    """
    return K_DM_S_MHZ2 * np.asarray(dm_pc_cm3, dtype=float) / np.square(np.asarray(frequency_mhz, dtype=float))


def infinite_frequency_time(
    time: datetime, *, dm_pc_cm3: float, frequency_mhz: float, dm_err_pc_cm3: float = 0.0, time_err_s: float = 0.0
) -> DedispersedTime:
    """Return when a burst that arrived at `time` at a frequency would have arrived at infinite frequency.

    The errors of the time and of the dispersion measure are taken as independent.

    Raises
    ------
    InvalidInputError
        The time is before the calendar begins.
    """
    delay_s = K_DM_S_MHZ2 * dm_pc_cm3 / frequency_mhz**2
    delay_err_s = K_DM_S_MHZ2 * dm_err_pc_cm3 / frequency_mhz**2
    try:
        dedispersed = time - timedelta(seconds=delay_s)
    except OverflowError as error:
        raise InvalidInputError(
            "centre_frequency", frequency_mhz, "a frequency (MHz) at which the delay by dispersion is less than ages"
        ) from error
    return DedispersedTime(dedispersed, float(np.hypot(time_err_s, delay_err_s)))
