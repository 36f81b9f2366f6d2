"""Draws the three plots beside it: a burst with the parameters of `radio_example.yaml`, simulated and searched for.

`python samples/frb/upload/draw_plots.py` writes the same pictures every time.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

HERE = Path(__file__).parent

DM_PC_CM3, SNR, WIDTH_MS = 411.0, 50.0, 5.0
RA_DEG, DEC_DEG = 77.01461542, 26.06069556
CENTRE_MHZ, BANDWIDTH_MHZ = 1400.0, 300.0
BEAM_ARCMIN = (0.2, 0.3)

DISPERSION_MS = 4.148808
# Delay in ms of 1 pc cm^-3 at 1 GHz (Lorimer & Kramer 2004, Handbook of Pulsar Astronomy, eq. 4.7).
N_CHANNELS, SAMPLE_MS, N_SAMPLES, ARRIVAL_MS = 300, 1.0, 1000, 250.0
# Coarser than the search itself, to keep the pictures small.


def main() -> None:
    """Simulate, dedisperse, draw."""
    mpl.use("agg")
    generator = np.random.default_rng(20171117)
    frequency_mhz = CENTRE_MHZ + BANDWIDTH_MHZ * ((np.arange(N_CHANNELS) + 0.5) / N_CHANNELS - 0.5)
    data = generator.standard_normal((N_CHANNELS, N_SAMPLES))
    data += _pulse(frequency_mhz)
    _draw_search(data, frequency_mhz)
    _draw_image(generator)
    _draw_histogram(_dedispersed(data, frequency_mhz, DM_PC_CM3))


def _delay_samples(frequency_mhz: np.ndarray, dm_pc_cm3: float) -> np.ndarray:
    """Delay against the top of the band, in whole samples."""
    top_mhz = CENTRE_MHZ + BANDWIDTH_MHZ / 2
    delay_ms = DISPERSION_MS * dm_pc_cm3 * ((frequency_mhz / 1e3) ** -2 - (top_mhz / 1e3) ** -2)
    return np.rint(delay_ms / SAMPLE_MS).astype(int)


def _pulse(frequency_mhz: np.ndarray) -> np.ndarray:
    """Flux in units of one sample's noise, such that a boxcar of the burst's width finds it at `SNR`."""
    samples = round(WIDTH_MS / SAMPLE_MS)
    start = round(ARRIVAL_MS / SAMPLE_MS) + _delay_samples(frequency_mhz, DM_PC_CM3)
    after = np.arange(N_SAMPLES) - start[:, None]
    return np.where((after >= 0) & (after < samples), SNR / np.sqrt(samples * N_CHANNELS), 0.0)


def _dedispersed(data: np.ndarray, frequency_mhz: np.ndarray, dm_pc_cm3: float) -> np.ndarray:
    """Sum of the channels, each moved by its delay, in units of its noise."""
    shifts = _delay_samples(frequency_mhz, dm_pc_cm3)
    moved = [np.roll(channel, -shift) for channel, shift in zip(data, shifts, strict=True)]
    return np.sum(moved, axis=0) / np.sqrt(N_CHANNELS)


def _boxcar(series: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio at every start of a boxcar as long as the burst."""
    samples = round(WIDTH_MS / SAMPLE_MS)
    return np.convolve(series, np.ones(samples), mode="valid") / np.sqrt(samples)


def _draw_search(data: np.ndarray, frequency_mhz: np.ndarray) -> None:
    dms = np.linspace(DM_PC_CM3 - 80, DM_PC_CM3 + 80, 81)
    window = slice(round((ARRIVAL_MS - 90) / SAMPLE_MS), round((ARRIVAL_MS + 90) / SAMPLE_MS))
    bow_tie = np.array([_boxcar(_dedispersed(data, frequency_mhz, dm))[window] for dm in dms])
    figure, (waterfall, plane) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    smooth = data.reshape(N_CHANNELS // 4, 4, N_SAMPLES // 4, 4).mean(axis=(1, 3)) * 4
    shown = waterfall.imshow(
        smooth, origin="lower", aspect="auto", cmap="viridis", vmin=-2, vmax=6, interpolation="nearest",
        extent=(0, N_SAMPLES * SAMPLE_MS, frequency_mhz[0], frequency_mhz[-1]),
    )  # fmt: skip
    figure.colorbar(shown, ax=waterfall, label="flux density / noise of a 4 ms, 4 MHz bin")
    waterfall.set(xlabel="time (ms)", ylabel="frequency (MHz)", title="dynamic spectrum")
    shown = plane.imshow(
        bow_tie, origin="lower", aspect="auto", cmap="magma", extent=(-90, 90, dms[0], dms[-1]), interpolation="nearest"
    )
    figure.colorbar(shown, ax=plane, label=f"S/N, boxcar of {WIDTH_MS:.0f} ms")
    plane.set(
        xlabel="time from arrival (ms)", ylabel="trial DM (pc cm$^{-3}$)", title=f"found at S/N {bow_tie.max():.1f}"
    )
    _save(figure, "example_search.png", dpi=95)


def _draw_image(generator: np.random.Generator) -> None:
    half_arcmin, pixels = 3.0, 121
    axis = np.linspace(-half_arcmin, half_arcmin, pixels)
    east, north = np.meshgrid(-axis, axis)
    angle = np.deg2rad(45.0)
    along, across = east * np.sin(angle) + north * np.cos(angle), east * np.cos(angle) - north * np.sin(angle)
    beam = np.exp(-0.5 * ((across / BEAM_ARCMIN[0]) ** 2 + (along / BEAM_ARCMIN[1]) ** 2))
    noise = np.fft.fft2(generator.standard_normal((pixels, pixels))) * np.abs(np.fft.fft2(beam))
    correlated = np.fft.ifft2(noise).real
    image = correlated / correlated.std() + SNR * beam
    figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    shown = axes.imshow(
        image, origin="lower", cmap="inferno", extent=(half_arcmin, -half_arcmin, -half_arcmin, half_arcmin)
    )
    figure.colorbar(shown, ax=axes, label="flux density / noise")
    axes.set(
        xlabel="offset to the east (arcmin)", ylabel="offset to the north (arcmin)",
        title=f"RA {RA_DEG:.4f} deg, Dec {DEC_DEG:+.4f} deg",
    )  # fmt: skip
    _save(figure, "example_image.png", dpi=180)


def _draw_histogram(series: np.ndarray) -> None:
    snr = _boxcar(series)
    figure, axes = plt.subplots(figsize=(5.2, 3.9), layout="constrained")
    axes.hist(snr, bins=np.arange(-5, 56, 1.0), log=True, color="tab:blue")
    peak = snr.max()
    axes.annotate(f"burst, S/N {peak:.1f}", (peak, 1), (peak - 22, 60), arrowprops={"arrowstyle": "->"})
    axes.set(
        xlabel=f"S/N, boxcar of {WIDTH_MS:.0f} ms at DM {DM_PC_CM3:.0f} pc cm$^{{-3}}$", ylabel="boxcars",
        title=f"{N_SAMPLES * SAMPLE_MS / 1e3:.0f} s of beam 1",
    )  # fmt: skip
    _save(figure, "example_histogram.png", dpi=180)


def _save(figure: plt.Figure, name: str, dpi: int = 120) -> None:
    figure.savefig(HERE / name, dpi=dpi, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
