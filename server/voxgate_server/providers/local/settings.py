"""The operator's settings of an engine: further keys of a deployment's `litellm_params`."""

from pathlib import Path

from voxgate_server.providers.base import ProviderParams

__all__ = ["Settings"]


class Settings:
    """Reads them one by one, and tells at the end which ones nobody has asked for.

    Args:
        params: Of the deployment.

    Raises:
        ValueError: The deployment is a caller's: what runs on this machine is not for callers to decide.
    """

    def __init__(self, params: ProviderParams) -> None:
        if not params.local:
            raise ValueError(f"'{params.provider}' runs on this machine, where only the operator decides what runs")
        self._provider = params.provider
        self._values = params.default_params
        self._known: list[str] = []

    def text(self, name: str) -> str | None:
        """A text; None where there is none."""
        value = self._value(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{name} of {self._provider} must be a text")
        return value

    def path(self, name: str) -> Path | None:
        """An absolute path; None where there is none."""
        value = self.text(name)
        if value is not None and not Path(value).is_absolute():
            raise ValueError(f"{name} of {self._provider} must be an absolute path")
        return None if value is None else Path(value)

    def place(self, model: str) -> tuple[str, Path | None]:
        """The name of a model and, where it is known, its directory: `model_path`, or `model` as an absolute path.

        A path is for the operator's eyes: callers are told the name of what was used.
        """
        path = self.path("model_path")
        if not Path(model).is_absolute():
            return model, path
        return Path(model).name, path or Path(model)

    def flag(self, name: str) -> bool:
        """True or false, where nothing is false."""
        value = self._value(name)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} of {self._provider} must be true or false")
        return bool(value)

    def number(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._value(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(  # noqa: TRY004 (what a builder raises)
                f"{name} of {self._provider} must be a whole number"
            )
        return value

    def check(self) -> None:
        """Raises ValueError for the first setting that nobody has asked for."""
        for name in self._values:
            if name not in self._known:
                raise ValueError(f"{self._provider} has no {name}; it has {', '.join(self._known)}")

    def _value(self, name: str) -> object:
        self._known.append(name)
        return self._values.get(name)
