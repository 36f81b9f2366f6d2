"""notifier for whose rests a minute is a second: `python -m tests.support.hasty_notifier`."""

import runpy

from services.notifier import dispatcher

TIMES_FASTER = 60


def main() -> None:
    dispatcher.BACKOFF_S /= TIMES_FASTER
    dispatcher.MAX_BACKOFF_S /= TIMES_FASTER
    runpy.run_module("services.notifier", run_name="__main__")


if __name__ == "__main__":
    main()
