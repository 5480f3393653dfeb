"""Client of the voxgate transcription gateway."""
