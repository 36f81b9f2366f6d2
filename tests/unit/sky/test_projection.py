"""Projections of the sky put positions where others put them."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from matplotlib.projections.geo import MollweideAxes

from shared.sky import projection


def test_projections_undo_each_other() -> None:
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(1, 359, 500), rng.uniform(-89, 89, 500)

    x, y = projection.to_mollweide(ra, dec)
    east, north, _ = projection.to_tangent_plane(ra, dec, (40.0, -30.0))

    for again in (projection.from_mollweide(x, y), projection.from_tangent_plane(east, north, (40.0, -30.0))):
        np.testing.assert_allclose(again[0], ra, atol=1e-6)
        np.testing.assert_allclose(again[1], dec, atol=1e-6)


def test_the_whole_sky_is_where_matplotlib_puts_it_mirrored() -> None:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 500), rng.uniform(-90, 90, 500)
    transform = MollweideAxes.MollweideTransform(60)
    east = np.radians(ra - projection.CENTRE_RA_DEG)
    theirs = transform.transform_non_affine(np.stack([east, np.radians(dec)], axis=1)) / np.sqrt(2)

    x, y = projection.to_mollweide(ra, dec)

    # Theirs stops at 1e-3 of the auxiliary angle.
    np.testing.assert_allclose(x, -theirs[:, 0], atol=2e-3)
    np.testing.assert_allclose(y, theirs[:, 1], atol=2e-3)


def test_the_surroundings_are_where_astropy_says() -> None:
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 360, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    centre = SkyCoord(359.5 * u.deg, 62.0 * u.deg)
    there = SkyCoord(ra * u.deg, dec * u.deg)
    distance, direction = centre.separation(there).deg, centre.position_angle(there).rad

    east, north, away = projection.to_tangent_plane(ra, dec, (359.5, 62.0))

    np.testing.assert_allclose(away, distance, atol=1e-9)
    np.testing.assert_allclose(east, distance * np.sin(direction), atol=1e-8)
    np.testing.assert_allclose(north, distance * np.cos(direction), atol=1e-8)
