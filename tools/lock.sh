#!/bin/sh
# Resolves requirements/*.txt anew: every version pinned with its hashes, for every platform, naming no download host.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate "$@"; }
python3 - > requirements/server.in <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print("# Written by tools/lock.sh from pyproject.toml: the server, its extras, and the build backend.")
extras = [line for name in ("local", "google") for line in project["optional-dependencies"][name]]
needed = [line for line in project["dependencies"] if not line.startswith("voxgate-client")]
print(*needed, *extras, "hatchling", "editables", sep="\n")
PY
compile requirements/server.in -o requirements/server.txt
compile requirements/dev.in requirements/server.txt -o requirements/dev.txt
compile requirements/gen.in -o requirements/gen.txt
