"""The command line: `voxgate serve`, `transcribe`, `models`, `config check`.

Exit codes: 0 done; 1 the work failed (an error of the server, a provider or the network); 2 wrong usage or a wrong
configuration; 130 interrupted.
"""

from voxgate_server.cli.main import main

__all__ = ["main"]
