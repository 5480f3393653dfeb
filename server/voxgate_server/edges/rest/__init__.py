"""OpenAI-compatible REST: a rendering of the API's messages."""
