"""Other observatories' notices of bursts: where they come from, and how each format is read into one model."""
