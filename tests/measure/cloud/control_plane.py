"""A stand-in for Modal's service, over its own protocol: it notes what it is asked for, and answers calls of functions
as a test says. No function is run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpclib
from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Handler
from grpclib.server import Server
from modal._serialization import deserialize, serialize
from modal_proto import api_pb2

WAITS = object()
"""Answer of a function that is still at it."""
Answer = Callable[..., Any]


class ControlPlane:
    """``answers``: of each function, given its arguments and the marks; an exception is raised in the container."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        self.functions: dict[str, Any] = {}
        self.images: list[Any] = []
        self.marks: dict[bytes, bytes] = {}
        self._calls: dict[str, tuple[str, tuple[Any, ...]]] = {}

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def mark(self, key: str, value: Any) -> None:
        """As a function would, in its container."""
        self.marks[serialize(key)] = serialize(value)

    def answer(self, name: str, request: Any) -> Any:
        self.asked.append((name, request))
        own = getattr(self, f"_{name}", None)
        if own is not None:
            return own(request)
        if name in _EMPTY:
            return None
        raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, name)

    def _AppCreate(self, request: Any) -> Any:
        return api_pb2.AppCreateResponse(app_id="ap-1", app_page_url="http://none", app_logs_url="http://none")

    def _EnvironmentGetOrCreate(self, request: Any) -> Any:
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def _FunctionPrecreate(self, request: Any) -> Any:
        name = request.function_name
        return api_pb2.FunctionPrecreateResponse(function_id=f"fu-{name}", handle_metadata=_handle(name))

    def _FunctionCreate(self, request: Any) -> Any:
        name = request.function.function_name
        self.functions[name] = request.function
        whole = api_pb2.FunctionData(ranked_functions=[api_pb2.FunctionData.RankedFunction(function=request.function)])
        return api_pb2.FunctionCreateResponse(
            function_id=f"fu-{name}", handle_metadata=_handle(name), function=request.function, function_data=whole
        )

    def _ImageGetOrCreate(self, request: Any) -> Any:
        self.images.append(request.image)
        done = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        return api_pb2.ImageGetOrCreateResponse(image_id=f"im-{len(self.images)}", result=done)

    def _MountGetOrCreate(self, request: Any) -> Any:
        return api_pb2.MountGetOrCreateResponse(mount_id="mo-1")

    def _MountPutFile(self, request: Any) -> Any:
        return api_pb2.MountPutFileResponse(exists=True)

    def _VolumeGetOrCreate(self, request: Any) -> Any:
        return api_pb2.VolumeGetOrCreateResponse(volume_id="vo-1")

    def _SecretGetOrCreate(self, request: Any) -> Any:
        return api_pb2.SecretGetOrCreateResponse(secret_id="st-1")

    def _DictGetOrCreate(self, request: Any) -> Any:
        return api_pb2.DictGetOrCreateResponse(dict_id="di-1")

    def _DictGet(self, request: Any) -> Any:
        value = self.marks.get(request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    def _FunctionMap(self, request: Any) -> Any:
        name = request.function_id.removeprefix("fu-")
        call = f"fc-{len(self._calls)}"
        given: tuple[Any, ...] = ()
        items = []
        for item in request.pipelined_inputs:
            given = deserialize(item.input.args, None)[0]
            items.append(api_pb2.FunctionPutInputsResponseItem(idx=item.idx, input_id=f"in-{call}"))
        self._calls[call] = (name, given)
        return api_pb2.FunctionMapResponse(function_call_id=call, pipelined_inputs=items)

    def _FunctionGetOutputs(self, request: Any) -> Any:
        name, given = self._calls[request.function_call_id]
        try:
            found = self.answers[name](*given)
        except Exception as error:
            status, data, words = api_pb2.GenericResult.GENERIC_STATUS_FAILURE, serialize(error), repr(error)
        else:
            if found is WAITS:
                return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
            status, data, words = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, serialize(found), ""
        result = api_pb2.GenericResult(status=status, data=data, exception=words)
        item = api_pb2.FunctionGetOutputsItem(
            result=result, idx=0, input_id=f"in-{request.function_call_id}", data_format=api_pb2.DATA_FORMAT_PICKLE
        )
        return api_pb2.FunctionGetOutputsResponse(outputs=[item], idxs=[0], last_entry_id="1")


_EMPTY = (
    "ClientHello", "AppPublish", "AppClientDisconnect", "AppHeartbeat", "DictHeartbeat", "FunctionCallCancel",
    "AppGetLogs", "MountBatchedCheckExistence",
)  # fmt: skip


def _handle(name: str) -> Any:
    return api_pb2.FunctionHandleMetadata(function_name=name, function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION)


class _Service:
    """What grpclib serves: every method of Modal's, by the description that comes with its package."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def __mapping__(self) -> dict[str, Handler]:
        service = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
        return {f"/{service.full_name}/{method.name}": self._handler(method) for method in service.methods}

    def _handler(self, method: Any) -> Handler:
        asked, told = (GetMessageClass(each) for each in (method.input_type, method.output_type))

        async def serve(stream: Any) -> None:
            request = await stream.recv_message()
            found = self._plane.answer(method.name, request)
            if not method.server_streaming:
                await stream.send_message(told() if found is None else found)

        kind = Cardinality.UNARY_STREAM if method.server_streaming else Cardinality.UNARY_UNARY
        return Handler(serve, kind, asked, told)


@contextmanager
def serving(plane: ControlPlane) -> Iterator[str]:
    """The service on a port of this machine; its address."""
    ready, port, stop = threading.Event(), [0], asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = Server([_Service(plane)])
        await server.start("127.0.0.1", 0)
        port[0] = server._server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        await server.wait_closed()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
