"""Tells browsers and scripts of changes, as server-sent events, in the order in which they were committed."""
