"""Structured logs: a fixed dotted event name and key-values, JSON where nobody watches."""

import logging
import sys
import time

import structlog

from shared.settings import LogSettings

REPEAT_AFTER_S = 60.0


def configure_logging(settings: LogSettings, service: str) -> None:
    """Send structlog's and the standard library's records to stderr in one format."""
    as_json = settings.format == "json" or (settings.format == "auto" and not sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[settings.level]
    shared_processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    exceptions = [structlog.processors.format_exc_info] if as_json else []
    structlog.configure(
        processors=[*shared_processors, *exceptions, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared_processors, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *exceptions, renderer],
        )
    )
    handler.addFilter(_NotAgain())
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


class _NotAgain(logging.Filter):
    """Passes each kind of librdkafka's complaints once a minute: every attempt to reconnect repeats them."""

    def __init__(self) -> None:
        super().__init__()
        self._passed_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("librdkafka"):
            return True
        kind = record.name, record.getMessage().split(" ", 1)[0]  # FAIL, GETPID, ...
        now = time.monotonic()
        if now - self._passed_at.get(kind, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            return False
        self._passed_at[kind] = now
        return True
