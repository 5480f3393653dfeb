"""The REST shim's paths."""

from collections.abc import Callable

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from voxgate_server.edges.identity import Identity
from voxgate_server.edges.rest.fence import Fence, request_context
from voxgate_server.edges.rest.health import health_body, metrics_body
from voxgate_server.edges.rest.model_list import model_body, models_body
from voxgate_server.edges.rest.portkey_headers import PortkeyHeaders
from voxgate_server.edges.rest.respond import send_json, send_response
from voxgate_server.edges.rest.transcriptions import TranscriptionEndpoint
from voxgate_server.errors import PermissionDenied, UnknownRoute
from voxgate_server.gateway import Gateway
from voxgate_server.routing.portkey_plan import PortkeyPlanner
from voxgate_server.telemetry.metrics import CONTENT_TYPE

__all__ = ["rest_app"]

_BASES = ("/v1", "", "/openai/v1", "/openai/deployments/{model:path}")
"""What may stand before `/audio/…`: OpenAI's own, LiteLLM's short form, and the two forms of Azure's SDK."""


def rest_app(gateway: Gateway, identity: Identity, *, ready: Callable[[], bool], portkey: PortkeyPlanner) -> ASGIApp:
    """The ASGI application.

    Args:
        gateway: Answers the calls.
        identity: Knows the keys.
        ready: Whether new calls are welcome.
        portkey: Plans calls that come with Portkey's headers.
    """
    headers = PortkeyHeaders(portkey, identity)

    async def liveliness(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, b'"I\'m alive!"')

    async def readiness(_scope: Scope, _receive: Receive, send: Send) -> None:
        if ready():
            await send_json(send, b'{"status":"healthy"}')
        else:
            await send_response(send, b'{"status":"draining"}', b"application/json", status=503)

    async def health(scope: Scope, _receive: Receive, send: Send) -> None:
        _check_admin(scope)
        await send_json(send, health_body(gateway, scope["query_string"]))

    async def metrics(scope: Scope, _receive: Receive, send: Send) -> None:
        _check_admin(scope)
        await send_response(send, await metrics_body(gateway), CONTENT_TYPE.encode())

    async def models(scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, models_body(gateway.models(request_context(scope).caller)))

    async def model(scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, model_body(gateway.model(scope["path_params"]["model"], request_context(scope).caller)))

    async def unknown(scope: Scope, _receive: Receive, _send: Send) -> None:
        raise UnknownRoute(f"Invalid URL ({scope['method']} {scope['path'][:200]}).")

    routes = []
    for task, translate in (("transcriptions", False), ("translations", True)):
        endpoint = TranscriptionEndpoint(gateway, headers, translate=translate)
        routes += [_route("POST", f"{base}/audio/{task}", endpoint) for base in _BASES]
        bifrost = TranscriptionEndpoint(gateway, headers, translate=translate, with_extra_fields=True)
        routes.append(_route("POST", f"/litellm/v1/audio/{task}", bifrost))
    for base in ("/v1", "", "/openai/v1"):
        routes.append(_route("GET", f"{base}/models", models))
        routes.append(_route("GET", f"{base}/models/{{model:path}}", model))
    routes += [
        _route("GET", "/health", health),
        _route("GET", "/metrics", metrics),
        _route("GET", "/health/liveliness", liveliness),
        _route("GET", "/health/liveness", liveliness),
        _route("GET", "/health/readiness", readiness),
    ]
    return Fence(Router(routes, default=unknown, redirect_slashes=False), identity, ready=ready)


def _check_admin(scope: Scope) -> None:
    if not request_context(scope).caller.is_admin:
        raise PermissionDenied(f"{scope['path']} needs an admin key.")


class _Endpoint:
    """Marks a coroutine function as an ASGI application; Starlette would wrap a bare function."""

    def __init__(self, app: ASGIApp, method: str) -> None:
        self._app = app
        self._method = method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette answers a wrong method in plain text; clients expect OpenAI's error object.
        if scope["method"] != self._method and not (scope["method"] == "HEAD" and self._method == "GET"):
            raise UnknownRoute(f"{scope['path'][:200]} takes {self._method}, not {scope['method']}.")
        await self._app(scope, receive, send)


def _route(method: str, path: str, app: ASGIApp) -> Route:
    return Route(path, _Endpoint(app, method))
