"""The transcript as such: segments, cues, documents."""
