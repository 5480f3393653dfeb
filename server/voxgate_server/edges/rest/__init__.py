"""The REST shim: OpenAI's paths, forms and answers."""
