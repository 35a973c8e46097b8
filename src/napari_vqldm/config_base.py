"""Base of every configuration, and reading it: unknown keys fail; TOML and JSON in, JSON out.

No torch here: the card of a checkpoint is read and checked with these models alone.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_vqldm.errors import ConfigError

Int3 = tuple[int, int, int]
Float3 = tuple[float, float, float]
Range = tuple[float, float]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(ge=1)]

# Light microscopy of filaments: below 1 nm is an electron microscope or a wrong unit, above 100 um is a wrong unit.
VOXEL_SIZE_RANGE_UM = (0.001, 100.0)
MAX_WINDOW = 4096  # voxels per axis

Family = Literal["ldm", "vq-ldm"]
Organisation = Literal["aster", "two_asters", "free", "aligned", "spindle"]
ORGANISATIONS: tuple[Organisation, ...] = ("aster", "two_asters", "free", "aligned", "spindle")


class Config(BaseModel):
    """Base: frozen, unknown keys fail, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def check_voxel_size(name: str, size_um: Float3) -> None:
    """Refuse voxel sizes of no light microscope."""
    low, high = VOXEL_SIZE_RANGE_UM
    if not all(low <= size <= high for size in size_um):
        raise ValueError(f"{name}: expected a voxel size (z, y, x) between {low} and {high} micrometres, got {size_um}")


C = TypeVar("C", bound=Config)


def validate(kind: type[C], values: Any, source: str = "configuration") -> C:
    """Return ``values`` as ``kind``; a violation becomes one `ConfigError` that names key, problem and source."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(_keys_of(kind, first["loc"])) or "top level"
        if first["type"] == "extra_forbidden":
            known = known_keys(kind, first["loc"])
            near = get_close_matches(str(first["loc"][-1]), known, n=1)
            meant = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{source}: unknown key {where!r}: {meant}expected one of {', '.join(known)}") from None
        if first["type"] == "value_error":  # one of our own rules, which says what it got
            rule = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{source}: {where}: {rule}" if first["loc"] else f"{source}: {rule}") from None
        raise ConfigError(f"{source}: {where}: {first['msg']} (got {first.get('input')!r:.120})") from None


def _keys_of(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the parts of ``loc`` that a user wrote: not the tags by which unions chose one of their members."""
    written: list[str] = []
    sections, tags = [kind], set[Any]()
    for part in loc:
        if part in tags:
            sections = [section for section in sections if part in _tags_of(section)]
            tags = set()
            continue
        written.append(str(part))
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [section for field in fields for section in _sections_in(field.annotation)] or sections
        tags = {tag for section in sections for tag in _tags_of(section)} if len(sections) > 1 else set()
    return written


def _tags_of(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values of the key that tells a member of a union from the others."""
    return tuple(
        tag
        for name in ("network", "kind")
        if name in section.model_fields
        for tag in get_args(section.model_fields[name].annotation)
    )


def known_keys(kind: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Return the keys of the section of ``kind`` in which ``loc``, the place of a key as pydantic tells it, lies.

    A part of ``loc`` that is no key is the index of a list, the key of a dictionary, or the tag of a union, which
    chooses one of its members.
    """
    sections = [kind]
    for part in loc[:-1]:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        inner = [section for field in fields for section in _sections_in(field.annotation)]
        tagged = [
            section
            for section in sections
            if any(part in get_args(field.annotation) for field in section.model_fields.values())
        ]
        sections = inner or tagged or sections
    return list(dict.fromkeys(name for section in sections for name in section.model_fields))


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the configurations that an annotation names, those of optional values, unions and lists too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections_in(inner)]


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; unreadable or invalid text becomes a `ConfigError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read configuration: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def to_json(config: Config) -> str:
    """Serialize a configuration as JSON with sorted keys: equal configurations give equal text."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=True)
