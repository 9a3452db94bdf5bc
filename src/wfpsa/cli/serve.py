"""The verb that serves metrics to Prometheus, and whether all is well, over HTTP."""

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated
from wsgiref.simple_server import WSGIServer

import typer

import wfpsa
from wfpsa.cli.common import (
    EngineOption,
    ExitCode,
    Failure,
    UsageFault,
    argument_faults,
    ended_as_by_ctrl_c,
    notice,
    opened,
    required_target,
    subscribing,
)

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

STALE = 60.0
"""Seconds after which a state is no longer healthy."""


def serve(
    context: typer.Context,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help="Where; port 0 is any that is free.")
    ] = "127.0.0.1:9821",
    top_peers: Annotated[
        int,
        typer.Option("--top-peers", min=0, max=30, metavar="N", help="Name the N peers with the most contexts, too."),
    ] = 0,
    reconcile_every: Annotated[
        float, typer.Option("--reconcile-every", metavar="SECONDS", help="How often all contexts are listed.")
    ] = 300.0,
    engine: EngineOption = None,
) -> int:
    """Serve metrics for Prometheus at /metrics and health at /healthz, until Ctrl-C.

    A mirror stands behind them: a scrape lists nothing, and shows the last state where the engine is gone. Health is
    200 while that state is fresh, else 503. It listens on this machine only unless --listen says otherwise.
    """
    host, port = _address(listen)
    try:
        import prometheus_client
    except ImportError as error:
        raise Failure("serve needs prometheus-client: python -m pip install 'wfpsa[metrics]'") from error
    from wfpsa.metrics import METRIC_FIELDS, WfpsaCollector

    target = required_target(context, engine)
    with (
        opened(target) as open_engine,
        subscribing("serving"),
        argument_faults(),
        open_engine.mirror(fields=METRIC_FIELDS, reconcile_every=reconcile_every) as mirror,
    ):
        open_engine.reconnect = True  # the counters are asked for after a restart of the service, too
        registry = prometheus_client.CollectorRegistry()
        registry.register(WfpsaCollector(mirror, engine=open_engine, top_peers=top_peers))
        with _server(host, port, _routed(prometheus_client.make_wsgi_app(registry), mirror)) as server:
            shown = f"[{host}]" if ":" in host else host
            bound = server.server_address[1]
            notice(f"metrics of {open_engine.target} at http://{shown}:{bound}/metrics, health at /healthz")
            if not ipaddress.ip_address(host).is_loopback:
                notice(
                    f"whoever can reach {host} can read them: --listen 127.0.0.1:{bound} is for this machine", "yellow"
                )
            _serve_until_told(server)
    notice("ended")
    return ExitCode.DONE


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port) if colon and port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise UsageFault(f"--listen takes an address and a port, as in 127.0.0.1:9821 or [::1]:9821, not {listen!r}")
    return host, number


def _routed(metrics: "WSGIApplication", mirror: wfpsa.Mirror) -> "WSGIApplication":
    """The two places there are."""

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/healthz":
            age, error = mirror.age, mirror.error
            healthy = age < STALE
            said = f"{'ok' if healthy else 'stale'}: {len(mirror)} contexts, {age:.1f} s old"
            text = f"{said}, {error}\n" if error else f"{said}\n"
            return _answered(start_response, "200 OK" if healthy else "503 Service Unavailable", text)
        return _answered(start_response, "404 Not Found", "there are /metrics and /healthz\n")

    return app


def _answered(start_response: "StartResponse", status: str, text: str) -> list[bytes]:
    data = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(data)))])
    return [data]


@contextlib.contextmanager
def _server(host: str, port: int, app: "WSGIApplication") -> Iterator[WSGIServer]:
    from wsgiref.simple_server import make_server

    from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler

    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = make_server(host, port, app, Server, handler_class=_SilentHandler)
    except OSError as error:
        raise Failure(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error
    with server:
        yield server


def _serve_until_told(server: WSGIServer) -> None:
    """Serves until Ctrl-C, SIGTERM or Ctrl-Break, and lets what is being answered come to its end."""
    worker = threading.Thread(target=server.serve_forever, args=(0.1,), name="wfpsa-serve", daemon=True)
    with ended_as_by_ctrl_c():
        try:
            worker.start()
            while True:
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass
        finally:
            if worker.is_alive():  # shutdown() waits for ever for what never began
                server.shutdown()
                worker.join()
