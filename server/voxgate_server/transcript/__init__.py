"""Transcripts: words to segments to cues, and the formats made of them."""

from voxgate_server.transcript.complete import complete

__all__ = ["complete"]
