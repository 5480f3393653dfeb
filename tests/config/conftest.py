"""Writes configuration files the way a person would, and loads them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from voxgate_server.config import ConfigError, LoadedConfig, load_config

Write = Callable[..., Path]
Load = Callable[..., LoadedConfig]
Refusals = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "gw.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), "utf-8")
        return path

    return write


@pytest.fixture
def load(write: Write) -> Load:
    def load(text: str, environ: Mapping[str, str] | None = None) -> LoadedConfig:
        return load_config(write(text), environ or {})

    return load


@pytest.fixture
def refusals(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Refusals:
    """The problems of a configuration, one line each, with the file's bare name."""

    def refusals(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        write(text)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigError) as caught:
            load_config("gw.yaml", environ or {})
        assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
        return str(caught.value).splitlines()

    return refusals
