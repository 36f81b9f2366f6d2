"""Small sky maps of every layout, written by astropy and not by our own writer."""

import io
from functools import cache
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from tests.support.data import SAMPLES, SHARED_DATA

ORDER = 4
N_PIXELS = 12 << 2 * ORDER
DISTANCES = ("DISTMU", "DISTSIGMA", "DISTNORM")


def some_maps() -> dict[str, bytes]:
    """Every real map at hand: the shipped ones, those inside shipped alerts left out, and the collection's."""
    paths = sorted((SAMPLES / "skymaps").iterdir())
    if SHARED_DATA is not None:
        paths += sorted((SHARED_DATA / "skymaps").iterdir())
    return {path.name: path.read_bytes() for path in paths}


@cache
def a_sky(seed: int = 1) -> dict[str, NDArray[Any]]:
    """Values per nested pixel of order 4: PROB (sums to 1) and distances, unknown in some pixels."""
    rng = np.random.default_rng(seed)
    # Neighbours in groups of sixteen share their values, so that there is something to merge.
    prob = np.repeat(rng.random(N_PIXELS // 16) ** 6, 16)
    prob[: N_PIXELS // 2] = rng.random(N_PIXELS // 2) ** 6
    mu = np.repeat(rng.uniform(50, 300, N_PIXELS // 16), 16)
    sigma, norm = np.full(N_PIXELS, 40.0), np.full(N_PIXELS, 1e-5)
    mu[::97], sigma[::97], norm[::97] = np.inf, 1.0, 0.0
    norm[1::97] = 1e67
    return {"PROB": prob / prob.sum(), "DISTMU": mu, "DISTSIGMA": sigma, "DISTNORM": norm}


def a_table(columns: list[fits.Column], **header: Any) -> bytes:
    """A FITS file with these columns and header cards."""
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update({"PIXTYPE": "HEALPIX", "COORDSYS": "C", **{k.replace("_", "-"): v for k, v in header.items()}})
    for key in [key for key, value in table.header.items() if value == ""]:
        del table.header[key]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    return buffer.getvalue()


def a_flat_map(
    *, ring: bool = False, per_row: int = 1, code: str = "D", name: str = "PROB", distances: bool = True, **header: Any
) -> bytes:
    """The sky of `a_sky`, flat and implicit."""
    sky = a_sky()
    if ring:
        pixels = np.asarray(healpy.ring2nest(1 << ORDER, np.arange(N_PIXELS)))
        sky = {key: values[pixels] for key, values in sky.items()}
    shape = (-1, per_row) if per_row > 1 else (-1,)
    form = f"{per_row}{code}" if per_row > 1 else code
    columns = [fits.Column(name, form, array=sky["PROB"].reshape(shape))]
    if distances:
        columns += [fits.Column(key, form, array=sky[key].reshape(shape)) for key in DISTANCES]
    cards = {"ORDERING": "RING" if ring else "NESTED", "NSIDE": 1 << ORDER, "INDXSCHM": "IMPLICIT"}
    return a_table(columns, **{**cards, **header})


def an_explicit_map(pixels: NDArray[np.int64], *, ring: bool = False, **header: Any) -> bytes:
    """Only these nested pixels of `a_sky`, flat and explicit."""
    number = np.asarray(healpy.nest2ring(1 << ORDER, pixels)) if ring else pixels
    prob = a_sky()["PROB"][pixels]
    columns = [fits.Column("PIXEL", "J", array=number), fits.Column("PROB", "D", array=prob)]
    cards = {"ORDERING": "RING" if ring else "NESTED", "NSIDE": 1 << ORDER, "INDXSCHM": "EXPLICIT"}
    return a_table(columns, **{**cards, **header})


def a_multiorder_map(
    *,
    uniq: NDArray[Any] | None = None,
    probdensity: NDArray[Any] | None = None,
    uniq_code: str = "K",
    code: str = "D",
    unsigned: bool = False,
    distances: bool = True,
    **header: Any,
) -> bytes:
    """The sky of `a_sky` as UNIQ cells of one order, or the given cells."""
    if uniq is None:
        uniq = np.arange(N_PIXELS) + (4 << 2 * ORDER)
    if probdensity is None:
        probdensity = a_sky()["PROB"] * N_PIXELS / (4 * np.pi)
    if unsigned:
        columns = [fits.Column("UNIQ", "K", bzero=2**63, array=uniq.astype(np.uint64))]
    else:
        columns = [fits.Column("UNIQ", uniq_code, array=uniq)]
    columns.append(fits.Column("PROBDENSITY", code, array=probdensity, unit="sr-1"))
    if distances and len(uniq) == N_PIXELS:
        columns += [fits.Column(key, code, array=a_sky()[key]) for key in DISTANCES]
    return a_table(columns, **{"ORDERING": "NUNIQ", "INDXSCHM": "EXPLICIT", **header})
