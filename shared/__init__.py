"""The library every Tocsin service stands on; it knows no service."""
