"""The doors: the one that the telescope's old client knows, and the proper one."""
