"""A configuration file, the files it includes, and the one tree they make together."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from voxgate_server.config.problems import ConfigError, Place, Problem, quoted
from voxgate_server.config.tree import Budget, Node, parse

__all__ = ["MAX_FILE_BYTES", "Document", "Source", "read_source"]

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_FILES = 100

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML does not allow, the byte order mark in the middle of a file apart."""


@dataclass(slots=True)
class Document:
    """One file as it is written."""

    file: str
    root: Node
    identity: tuple[int, int] = (0, 0)
    """Device and inode, by which a file is known under any name."""
    replaced: dict[str, str] = field(default_factory=dict)
    """Top-level keys that a file it includes has overwritten, and that file."""


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that was read."""

    root: Node
    """All files merged: lists appended, maps overwritten, without `include`."""
    documents: tuple[Document, ...]
    """The file itself, then what it includes, in the order in which it was read."""
    warnings: tuple[Problem, ...]


def read_source(path: str | os.PathLike[str], problems: list[Problem]) -> Source:
    """Reads a file and what it includes.

    Args:
        path: The file. Places name it as it is given here.
        problems: Takes what is wrong without making the rest unreadable.

    Raises:
        ConfigError: The file itself cannot be read at all, or is not a map.
    """
    reader = _Reader(problems)
    name = os.fspath(path)
    document = reader.read(name, Place(name, 1, 1), [])
    if document is None:
        raise ConfigError(problems)
    root = reader.merge(document, [document])
    return Source(root, tuple(reader.documents), tuple(reader.warnings))


class _Reader:
    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.warnings: list[Problem] = []
        self.documents: list[Document] = []
        self.budget = Budget()

    def read(self, name: str, asked: Place, stack: list[Document]) -> Document | None:
        """One file; None, with the problem recorded, when there is nothing to go on with.

        Args:
            name: Its path, as it is called in places.
            asked: Where it was asked for.
            stack: The files that are being read, each included by the one before.
        """
        if len(self.documents) >= MAX_FILES:
            self.problems.append(Problem(asked, f"more than {MAX_FILES} files"))
            return None
        found = self._text(name, asked, stack)
        if found is None:
            return None
        text, identity = found
        before = len(self.problems)
        root = parse(text, name, self.budget, self.problems)
        if root is None or root.value is None:
            if len(self.problems) > before:
                return None
            root = Node(Place(name, 1, 1), {})
        if not isinstance(root.value, dict):
            kind = "a list" if isinstance(root.value, tuple) else "a single value"
            what = f"a configuration is a map with keys such as model_list, this is {kind}"
            self.problems.append(Problem(root.place, what))
            return None
        document = Document(name, root, identity)
        self.documents.append(document)
        return document

    def _text(self, name: str, asked: Place, stack: list[Document]) -> tuple[str, tuple[int, int]] | None:
        def refuse(what: str, place: Place = asked) -> None:
            subject = "" if place.file == name else f"{quoted(name)}: "
            self.problems.append(Problem(place, subject + what))

        try:
            found = Path(name).stat()
            identity = (found.st_dev, found.st_ino)
            if not stat.S_ISREG(found.st_mode):
                refuse("a directory, not a file" if stat.S_ISDIR(found.st_mode) else "not a regular file")
                return None
            if any(identity == document.identity for document in stack):
                refuse("includes itself in a circle")
                return None
            with Path(name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
            refuse(f"cannot be read: {reason or type(error).__name__}")
            return None
        if len(data) > MAX_FILE_BYTES:
            refuse(f"larger than {MAX_FILE_BYTES // 1024 // 1024} MiB, the most a configuration may have")
            return None
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            refuse("encoded as UTF-16; save it as UTF-8")
            return None
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # The decoder with a signature counts from behind it; what stands before the byte is fine either way.
            before = data.removeprefix(b"\xef\xbb\xbf")[: error.start].decode("utf-8", "ignore")
            refuse("not UTF-8; save the file as UTF-8", _end_of(before, name))
            return None
        if forbidden := _FORBIDDEN.search(text):
            what = f"the control character U+{ord(forbidden[0]):04X}; remove it"
            refuse(what, _end_of(text[: forbidden.start()], name))
            return None
        return text, identity

    def merge(self, document: Document, stack: list[Document]) -> Node:
        """The document with what it includes; `stack` holds the files that are being read, this one last."""
        merged = {key: node for key, node in document.root.map.items() if key != "include"}
        origin = dict.fromkeys(merged, document)
        include = document.root.map.get("include")
        for entry in self._entries(include):
            name = os.path.join(os.path.dirname(document.file), str(entry.value))  # noqa: PTH118, PTH120 (keeps "./")
            included = self.read(name, entry.place, stack)
            if included is None:
                continue
            for key, node in self.merge(included, [*stack, included]).map.items():
                present = merged.get(key)
                if present is not None and isinstance(node.value, tuple) and isinstance(present.value, tuple):
                    merged[key] = present.holding((*present.value, *node.value))
                    continue
                if present is not None:
                    origin[key].replaced[key] = name
                    what = f"{key}: replaces the one at {present.key or present.place}; an included map overwrites"
                    self.warnings.append(Problem(node.key or node.place, what))
                merged[key], origin[key] = node, included
        return document.root.holding(merged)

    def _entries(self, include: Node | None) -> list[Node]:
        if include is None or include.value is None:
            return []
        entries = include.items if isinstance(include.value, tuple) else (include,)
        right = []
        for entry in entries:
            if isinstance(entry.value, str) and entry.value:
                right.append(entry)
            else:
                self.problems.append(Problem(entry.place, "include: must be a list of file names"))
        return right


def _end_of(before: str, name: str) -> Place:
    """The place that follows some text."""
    lines = re.split("\r\n|\n|\r", before)
    return Place(name, len(lines), len(lines[-1]) + 1)
