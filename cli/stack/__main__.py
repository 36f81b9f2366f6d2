"""`python -m cli.stack`: see to it that the programs of the local stack are here, before tests or a demonstration."""

import sys

from cli.stack.install import PROGRAMS, install_missing

if __name__ == "__main__":
    still_missing = install_missing(PROGRAMS, print)
    sys.exit(1 if any(not program.is_optional for program in still_missing) else 0)
