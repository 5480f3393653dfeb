"""The configuration: LiteLLM's YAML and one key of our own."""
