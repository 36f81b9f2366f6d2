"""`make bench`: every measurement, as the table of benchmarks/README.md."""

import sys
from importlib import import_module

from benchmarks.report import HEAD, machine

SUITES = (
    "skymap", "overlap", "throughput", "latency", "memory", "intake", "listing", "coincidence", "notifier", "console",
)  # fmt: skip


def main() -> None:
    chosen = sys.argv[1:] or SUITES
    print(f"{machine()}\n\n{HEAD}", flush=True)
    for suite in chosen:
        for row in import_module(f"benchmarks.{suite}").measure():
            print(row.as_markdown(), flush=True)


if __name__ == "__main__":
    main()
