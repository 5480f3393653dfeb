"""Errors as gRPC statuses: complete, and small enough to arrive."""

import pytest
from google.rpc import error_details_pb2
from voxgate.transcription.v1.error_reason_pb2 import ErrorReason, RoutingFailure
from voxgate.transcription.v1.extra_fields_pb2 import ProviderAttempt
from voxgate_server import errors
from voxgate_server.edges.grpc.status import to_status

CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_reason_of_the_api_and_a_code(kind: type[errors.VoxgateError]):
    status = to_status(kind("text", retry_after=1.5), "req_1")
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert f"ERROR_REASON_{info.reason}" in ErrorReason.DESCRIPTOR.values_by_name
    assert info.metadata["request_id"] == "req_1"
    assert status.code == kind.status.value[0] != 0
    assert 400 <= kind.http_status < 600


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_stands_in_the_tree_at_the_top_of_its_file(kind: type[errors.VoxgateError]):
    drawn = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in f"{line} ")
    if drawn.split()[-1].isupper():
        assert drawn.split()[-2:] == [str(kind.http_status), kind.status.name]


def test_details_stay_below_what_metadata_can_carry():
    attempts = [
        ProviderAttempt(provider="p" * 255, model="m" * 255, error_code="X", error_message="e" * 200) for _ in range(50)
    ]
    error = errors.ProviderUnavailable(
        "m" * 100_000, param="p", metadata={f"k{i}": "v" * 1000 for i in range(10)}, attempts=attempts, retry_after=1
    )
    status = to_status(error, "req_1")
    assert status.ByteSize() <= 6 * 1024
    failure = RoutingFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    assert 1 <= len(failure.attempts) < 5
    usual = errors.ProviderUnavailable("m", attempts=[ProviderAttempt(provider="openai", model="whisper-1")] * 9)
    assert any(detail.Unpack(failure) for detail in to_status(usual, "req_1").details)
    assert len(failure.attempts) == 5


def test_details_that_do_not_fit_are_left_out_from_the_end():
    error = errors.InvalidRequest("m" * 1000, metadata={f"k{i}": "v" * 1000 for i in range(40)}, param="p")
    status = to_status(error, "req_1")
    assert status.ByteSize() <= 6 * 1024
