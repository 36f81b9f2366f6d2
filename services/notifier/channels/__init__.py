"""Where notices go: one module for each kind of channel."""
