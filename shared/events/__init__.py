"""What happens, as Python sees it: the records that travel on topics."""
