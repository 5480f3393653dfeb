"""The embedded recogniser `local/pocketsphinx`: `provider` is the adapter, `worker` what runs in processes of its own.

Workers are started with this package alone, so nothing is imported here: grpc and the rest of the server stay out of
them.
"""
