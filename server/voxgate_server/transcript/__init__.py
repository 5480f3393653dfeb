"""Transcripts: words to segments to cues, and the formats made of them."""
