"""A record as a tree: what was done, with which request, to which inputs, which have records of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from napari_vqldm.errors import RecipeError
from napari_vqldm.files.provenance import NAMESPACE
from napari_vqldm.volume import Float3

# Keys of a request under which a verb keeps the record of what it takes.
_ROLES: dict[str, tuple[str, ...]] = {
    "simulate": (),
    "generate": (),
    "crop": ("source",),
    "record": ("source",),
    "encode": ("source",),
    "decode": ("latent",),
    "interpolate": ("ends",),
    "blend": ("ends",),
    "residual": ("source", "reconstruction"),
    "uncertainty": ("source",),
}
LATENT_VERBS = ("encode", "blend")  # what they make is a latent


@dataclass(frozen=True, eq=False)
class Node:
    """One record.

    Attributes
    ----------
    verb : str
        ``"generate"``, ...; ``"read"`` for the content of a foreign file, empty where nothing is known.
    request : mapping
        What was asked for.
    inputs : tuple of Input
        In the order in which the verb takes them.
    record : mapping
        The whole of it.
    """

    verb: str
    request: Mapping[str, Any]
    inputs: tuple[Input, ...]
    record: Mapping[str, Any]

    @property
    def is_computed(self) -> bool:
        """Whether this package computed it, and so can again."""
        return self.verb in _ROLES

    @property
    def device(self) -> str:
        """Device that computed it; the CPU where the record does not say."""
        return str(self.environment.get("device") or "cpu")

    @property
    def threads(self) -> int | None:
        """Threads of PyTorch that computed it; None where the record does not say."""
        threads = self.environment.get("threads")
        return threads if isinstance(threads, int) and threads > 0 else None

    @property
    def environment(self) -> Mapping[str, Any]:
        """Machine that computed it; empty where the record does not say."""
        environment = self.record.get("environment")
        return environment if isinstance(environment, Mapping) else {}

    @property
    def voxels_sha256(self) -> str | None:
        """Fingerprint of the voxels that were computed; None where the record does not say."""
        return _text(self.record.get("voxels_sha256"))

    @property
    def title(self) -> str:
        """What a message calls it."""
        if self.verb == "read" and not self.file_name:
            layer = self._file.get("layer")
            return f"the layer {layer!r}, which is in no file" if layer else "a volume that is in no file"
        if self.verb == "read":
            return f"the file {self.file_name!r}{self._choice()}"
        if not self.is_computed:
            return "a volume without a record"
        parts = [f"{key} {self.request[key]}" for key in ("seed", "index", "seeds", "name") if key in self.request]
        return f"the result of {self.verb}" + (f" ({', '.join(parts)})" if parts else "")

    @property
    def file_name(self) -> str:
        """Name of the foreign file that was read; empty for other verbs."""
        return str(self._file.get("file", ""))

    @property
    def channel(self) -> int | None:
        """Channel of the foreign file; None where it has one."""
        channel = self._file.get("channel")
        return channel if isinstance(channel, int) else None

    @property
    def time(self) -> int | None:
        """Time point of the foreign file; None where it has one."""
        time = self._file.get("time")
        return time if isinstance(time, int) else None

    @property
    def _file(self) -> Mapping[str, Any]:
        source = self.record.get("source") if self.verb == "read" else None
        return source if isinstance(source, Mapping) else {}

    def _choice(self) -> str:
        named = [f"{key} {value}" for key, value in (("channel", self.channel), ("time", self.time)) if value]
        return f" ({', '.join(named)})" if named else ""


@dataclass(frozen=True, eq=False)
class Input:
    """What a verb took.

    Attributes
    ----------
    role : str
        Its name in the request.
    node : Node
        Its own record.
    sha256 : str or None
        Fingerprint of the voxels as they were taken, see `napari_vqldm.volume.hash_voxels`; None for latents and where
        the record does not say.
    voxel_size_um : tuple of float or None
        (z, y, x), as they were taken.
    """

    role: str
    node: Node
    sha256: str | None = None
    voxel_size_um: Float3 | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the voxels were changed after the input was computed and before it was taken."""
        made = self.node.voxels_sha256
        return made is not None and self.sha256 is not None and made != self.sha256


def read_recipe(provenance: Mapping[str, Any]) -> Node:
    """Return the tree of a record.

    Parameters
    ----------
    provenance : mapping
        Of a `Volume` or a `Latent`.

    Raises
    ------
    RecipeError
        If it is no record of this package, of a verb that this version does not know, or was not computed but read.
    """
    node = _node(provenance)
    if not node.verb:
        raise RecipeError(
            "this volume carries no record of napari-vqldm, so that nothing says how it was made: "
            "choose a volume that napari-vqldm computed"
        )
    if node.verb == "read":
        raise RecipeError(f"this volume was read from {node.title} and not computed: there is nothing to do again")
    if not node.is_computed:
        raise RecipeError(f"this record is of {node.verb!r}, which this version does not know: upgrade napari-vqldm")
    return node


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, inputs first."""
    for taken in node.inputs:
        yield from walk(taken.node)
    yield node


def _node(record: Any) -> Node:
    """Return the node of a record; one of another program becomes a leaf without a verb."""
    if not isinstance(record, Mapping) or record.get("software") != NAMESPACE:
        return Node("", {}, (), {})
    verb, request = str(record.get("verb", "")), record.get("request", {})
    request = request if isinstance(request, Mapping) else {}
    inputs = tuple(taken for role in _ROLES.get(verb, ()) for taken in _inputs(request, role))
    return Node(verb, request, inputs, record)


def _inputs(request: Mapping[str, Any], role: str) -> Iterator[Input]:
    """Yield what lies under one key of a request: one record, or the two ends of a path."""
    if role == "ends":
        for end in request.get("ends", ()):
            yield Input("end", _node(end))
        return
    size = request.get(f"{role}_voxel_size_um")
    is_size = isinstance(size, list | tuple) and len(size) == 3
    voxel_size = (float(size[0]), float(size[1]), float(size[2])) if is_size and size is not None else None
    yield Input(role, _node(request.get(role)), _text(request.get(f"{role}_sha256")), voxel_size)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
