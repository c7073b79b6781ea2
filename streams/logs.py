"""Where a process writes its log: a line of JSON for each event, in a terminal a readable one."""

import sys

import structlog

__all__ = ["log_to_stderr"]


def log_to_stderr() -> None:
    """Log to standard error from now on, each line in one write, so that none is torn by a kill."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer()
            if sys.stderr.isatty()
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
