"""Drawings of the pages, as SVG that the pages' style sheet colours. Pure: no input or output, nothing remembered."""
