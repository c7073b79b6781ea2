"""Liveness, readiness and metrics of a worker, on loopback unless told otherwise."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import REGISTRY, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from schemas.errors import SettingsError

__all__ = ["HealthServer", "Status"]

Respond = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Status:
    """Whether something is well, and in a word why not."""

    well: bool
    why: str = "ok"


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Probes come every few seconds: no line for each."""


class HealthServer:
    """Serves `/live`, `/ready` and `/metrics`: 200 where well, 503 with the reason where not.

    Parameters
    ----------
    live, ready
        Asked at each request, from another thread.

    Raises
    ------
    SettingsError
        If the port is taken.
    """

    def __init__(
        self, host: str, port: int, live: Callable[[], Status], ready: Callable[[], Status]
    ) -> None:
        self._checks = {"/live": live, "/ready": ready}
        self._metrics = make_wsgi_app(REGISTRY)
        try:
            self._server = make_server(
                host, port, self._app, server_class=ThreadingWSGIServer, handler_class=_Silent
            )
        except OSError as error:
            raise SettingsError(
                f"health port {port} on {host} cannot be used ({error.strerror}): another process "
                "has it; set GROUNDSWELL_HEALTH_PORT to a free one, or to 0"
            ) from error
        self.port = int(self._server.server_port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _app(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, respond)
            return body
        check = self._checks.get(path)
        if check is None:
            respond("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/live, /ready or /metrics\n"]
        status = check()
        line = "200 OK" if status.well else "503 Service Unavailable"
        respond(line, [("Content-Type", "text/plain; charset=utf-8")])
        return [status.why.encode() + b"\n"]
