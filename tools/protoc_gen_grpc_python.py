"""A protoc plugin for Python's gRPC stubs, of files that define a service.

The official plugin is compiled into grpc_tools and has no executable of its own, so buf cannot call it. This one
hands the descriptors buf sends on to grpc_tools and returns the files that come out.
"""

import pathlib
import sys
import tempfile

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from grpc_tools import protoc


def main() -> None:
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    wanted = set(request.file_to_generate)
    names = [file.name for file in request.proto_file if file.name in wanted and file.service]
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory)
        descriptors = out / "descriptors.binpb"
        descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        if names and protoc.main(["protoc", f"--descriptor_set_in={descriptors}", f"--grpc_python_out={out}", *names]):
            response.error = "grpc_tools.protoc failed, see its message above"
        for path in sorted(out.rglob("*_grpc.py")):
            response.file.add(name=path.relative_to(out).as_posix(), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


main()
