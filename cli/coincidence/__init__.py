"""`tocsin coincidence`: pairs of waves and bursts."""
