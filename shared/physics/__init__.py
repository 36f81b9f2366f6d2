"""The physics of radio bursts: dispersion, the Milky Way's electrons, distance from dispersion."""
