"""ModelService."""

import base64
import binascii
from typing import Any, TypeAlias

from grpc import aio
from voxgate.transcription.v1 import model_service_pb2 as api
from voxgate.transcription.v1.model_service_pb2_grpc import ModelServiceServicer

from voxgate_server.edges.grpc.fence import current_rpc
from voxgate_server.errors import InvalidRequest
from voxgate_server.gateway import Gateway

__all__ = ["ModelServicer"]

_Context: TypeAlias = "aio.ServicerContext[Any, Any]"
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000


class ModelServicer(ModelServiceServicer):
    """Lists models."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def ListModels(self, request: api.ListModelsRequest, context: _Context) -> api.ListModelsResponse:  # noqa: N802
        """A page of models, in order of their ids."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidRequest(f"page_size must be between 0 and {_LARGEST_PAGE}.", param="page_size")
        after = _decode_token(request.page_token)
        models = [
            model
            for model in self._gateway.models(current_rpc().caller)
            if model.id > after and request.provider in {"", model.provider}
        ]
        size = request.page_size or _DEFAULT_PAGE
        page = models[:size]
        token = _encode_token(page[-1].id) if len(models) > size else ""
        return api.ListModelsResponse(models=page, next_page_token=token)

    async def GetModel(self, request: api.GetModelRequest, context: _Context) -> api.GetModelResponse:  # noqa: N802
        """One model, by its id or an alias."""
        if not request.id:
            raise InvalidRequest("You must provide an id.", param="id")
        return api.GetModelResponse(model=self._gateway.model(request.id, current_rpc().caller))


def _encode_token(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def _decode_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise InvalidRequest("page_token is not one this server gave out.", param="page_token") from None
