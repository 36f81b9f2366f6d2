"""Sky maps of probability on HEALPix: read them, write them, ask them questions.

Pure functions over bytes and arrays: nothing here opens a file, a socket or a clock.

- `shared.sky.healpix`: cell arithmetic; positions on the sky are integers at order 29, nested.
- `shared.sky.fits`: a binary table decoded by hand, with bounded memory.
- `shared.sky.skymap`: `SkyMap`, `read_skymap`, `write_skymap`.
- `shared.sky.region`: credible regions, probabilities at points and in cones, distances.
- `shared.sky.localisation`: error ellipses, and the cells that cover them.
- `shared.sky.gaussian`: such an ellipse as a sky map.
- `shared.sky.overlap`: how much two maps agree, and their product.
- `shared.sky.volume`: the same with distances.
"""
