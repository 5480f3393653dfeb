"""`python -m voxgate_server.cli` is `voxgate`."""

from voxgate_server.cli.main import main

main()
