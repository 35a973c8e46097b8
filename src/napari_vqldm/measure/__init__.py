"""The verb `measure`: filaments of a volume in micrometres, tables of them, and groups of volumes compared.

The names are loaded on first use: a window that shows a measurement need not wait for torch, which tracing takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_vqldm.measure.groups import Difference, GroupComparison, compare_measurements
    from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES, VOLUME_QUANTITIES, Quantity
    from napari_vqldm.measure.result import Filament, Measurement
    from napari_vqldm.measure.tables import write_comparison, write_filaments, write_remarks, write_volumes
    from napari_vqldm.measure.verb import MeasurementStep, measure, measure_steps

_HOME = {
    "FILAMENT_QUANTITIES": "quantities",
    "VOLUME_QUANTITIES": "quantities",
    "Difference": "groups",
    "Filament": "result",
    "GroupComparison": "groups",
    "Measurement": "result",
    "MeasurementStep": "verb",
    "Quantity": "quantities",
    "compare_measurements": "groups",
    "measure": "verb",
    "measure_steps": "verb",
    "write_comparison": "tables",
    "write_filaments": "tables",
    "write_remarks": "tables",
    "write_volumes": "tables",
}

__all__ = [
    "FILAMENT_QUANTITIES",
    "VOLUME_QUANTITIES",
    "Difference",
    "Filament",
    "GroupComparison",
    "Measurement",
    "MeasurementStep",
    "Quantity",
    "compare_measurements",
    "measure",
    "measure_steps",
    "write_comparison",
    "write_filaments",
    "write_remarks",
    "write_volumes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
