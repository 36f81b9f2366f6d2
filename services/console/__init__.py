"""The console: what people look at."""
