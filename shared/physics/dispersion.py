"""Dispersion: a burst arrives later at lower frequencies; at infinite frequency it would arrive with light."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import InvalidInputError

K_DM_S_MHZ2 = 1e4 / 2.41
# s MHz^2 per (pc cm^-3). The conventional value, exact by agreement (Manchester & Taylor 1972, ApL 10, 67; Kulkarni
# 2020, arXiv:2007.02886): dispersion measures are published with it, so delays must be computed with it. The value from
# CODATA, 4148.806, would put a burst of DM 1000 at 400 MHz 3.6 ms off. CHIME's notices and catalogue follow the
# convention to 1e-7 (docs/decisions/0016).


@dataclass(frozen=True)
class DedispersedTime:
    """A time of arrival at infinite frequency, with its standard error."""

    time: datetime
    error_s: float


def dispersion_delay_s(dm_pc_cm3: ArrayLike, frequency_mhz: ArrayLike) -> NDArray[np.float64]:
    """Return how much later than at infinite frequency a burst arrives (s): K DM / frequency^2.

    Lorimer & Kramer 2005, Handbook of Pulsar Astronomy, chapter 4. At a frequency of nothing it never does.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        delay: NDArray[np.float64] = K_DM_S_MHZ2 * np.asarray(dm_pc_cm3, float) / np.square(frequency_mhz, dtype=float)
    return delay


def infinite_frequency_time(
    time: datetime, *, dm_pc_cm3: float, frequency_mhz: float, dm_err_pc_cm3: float = 0.0, time_err_s: float = 0.0
) -> DedispersedTime:
    """Return when a burst that arrived at `time` at a frequency would have arrived at infinite frequency.

    To the microsecond. The errors of the time and of the dispersion measure are taken as independent.

    Raises
    ------
    InvalidInputError
        The time is before the calendar begins.
    """
    delay_s, delay_err_s = dispersion_delay_s([dm_pc_cm3, dm_err_pc_cm3], frequency_mhz).tolist()
    try:
        dedispersed = time - timedelta(seconds=delay_s)
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(
            "centre_frequency", frequency_mhz, "a frequency (MHz) at which the delay by dispersion is less than ages"
        ) from error
    return DedispersedTime(dedispersed, float(np.hypot(time_err_s, delay_err_s)))
