"""NVIDIA Riva, over gRPC: self-hosted servers and NVIDIA's cloud functions."""

from voxgate_server.providers.riva.provider import RivaProvider, build

__all__ = ["RivaProvider", "build"]
