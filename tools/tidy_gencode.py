"""Removes the stubs that mypy-protobuf writes for gRPC modules that do not exist, of files without a service."""

import pathlib

for stub in pathlib.Path("clients/python/src/voxgate").rglob("*_pb2_grpc.pyi"):
    if not stub.with_suffix(".py").exists():
        stub.unlink()
