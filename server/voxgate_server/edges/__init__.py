"""Where calls come in: gRPC and REST."""
