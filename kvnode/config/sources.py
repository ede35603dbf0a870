"""Where values come from: flags win over the environment, it over the file, that over the default.

Here an option is a text and the place that gave it, so that whatever is wrong with it can be told
with its origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kvnode import limits
from kvnode.config.options import BY_NAME, OPTIONS, Option
from kvnode.errors import ConfigurationError, UsageError

CONFIG_VARIABLE = "KVNODE_CONFIG"


@dataclass(frozen=True, slots=True)
class Given:
    """The text of one option and the place that gave it."""

    text: str
    origin: str


def gather(
    flags: Mapping[str, str], environment: Mapping[str, str], warnings: list[str]
) -> dict[str, Given]:
    """Collect the texts, weakest place first, so that a stronger one overwrites.

    An empty variable counts as unset, since `${X:-}` in a compose file gives exactly that.

    Raises:
        ConfigurationError: the file is wrong; a UsageError if a flag names it.
    """
    given: dict[str, Given] = {}
    path, origin = flags.get("config"), "--config"
    if path is None:
        path, origin = environment.get(CONFIG_VARIABLE) or None, CONFIG_VARIABLE
    if path is not None:
        given.update(_read_file(path, origin))
    for option in OPTIONS:
        for variable in option.variables:
            if environment.get(variable):
                given[option.name] = Given(environment[variable], variable)
        if option.name in flags:
            given[option.name] = Given(flags[option.name], option.flag)
    known = {variable for option in OPTIONS for variable in option.variables} | {CONFIG_VARIABLE}
    warnings.extend(
        f"{name}: unknown variable, ignored"
        for name in sorted(environment)
        # Kubernetes announces a service called kvnode by KVNODE_PORT and its kin: a warning only.
        if name.startswith("KVNODE_") and name not in known
    )
    return given


def wrong(origin: str, problem: object) -> ConfigurationError:
    """Return the error of a value that this place gave."""
    kind = UsageError if origin.startswith("--") else ConfigurationError
    return kind(f"{origin}: {problem}")


def parse_given(option: Option, given: Given | None) -> Any:
    """Return the value of an option: of the text that was given, or by default.

    Raises:
        UsageError: a flag is wrong.
        ConfigurationError: a variable or a line of the file is.
    """
    if given is None:
        return None if option.default is None else option.parse(option.default)
    if not given.text or "\0" in given.text:
        raise wrong(given.origin, "the value is empty or holds a NUL")
    try:
        return option.parse(given.text)
    except ValueError as error:
        raise wrong(given.origin, error) from error


def _read_file(path: str, origin: str) -> dict[str, Given]:
    import tomllib

    try:
        # A configuration is short; whatever is longer is another file.
        with open(path, "rb") as file:
            content = file.read(limits.CONFIG_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise wrong(origin, f"cannot read {path}: {error.strerror}") from error
    if len(content) > limits.CONFIG_FILE_BYTES_MAX:
        raise wrong(origin, f"{path} is longer than {limits.CONFIG_FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(content.decode())
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: not valid TOML: {problem}") from error
    given: dict[str, Given] = {}
    for key, value in document.items():
        place = f"{path}: {key}"
        if key not in BY_NAME:
            raise ConfigurationError(f"{place}: unknown key")
        given[BY_NAME[key].name] = Given(_text_of(key, value, place), place)
    return given


def _text_of(key: str, value: object, place: str) -> str:
    """Turn a TOML value into the text that the same option has elsewhere."""
    if key == "cluster" and isinstance(value, dict):
        return ",".join(f"{name}={address}" for name, address in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise ConfigurationError(f"{place}: expected text, a number or a boolean")
