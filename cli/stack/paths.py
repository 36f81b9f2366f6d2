"""Where the local stack lives."""

import os
from pathlib import Path

DIRECTORY_VARIABLE = "TOCSIN_STACK__DIRECTORY"


def local_directory() -> Path:
    """The folder of everything that `tocsin up` makes: `.local/` of the checkout, else of the working directory.

    `TOCSIN_STACK__DIRECTORY` puts it elsewhere.
    """
    if chosen := os.environ.get(DIRECTORY_VARIABLE):
        return Path(chosen).absolute()
    checkout = Path(__file__).parents[2]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / ".local"
