"""How many warps are resident on a unit, by the resources that a program takes."""

from __future__ import annotations

from dataclasses import dataclass

from moeproof.architectures import Architecture


@dataclass(frozen=True)
class Occupancy:
    """An estimate by registers, shared memory and the hardware's own limits.

    Attributes:
        warps: resident on a unit.
        most_warps: that a unit can hold.
        limited_by: "registers", "shared memory" or "hardware".
    """

    warps: int
    most_warps: int
    limited_by: str


def estimate_occupancy(
    architecture: Architecture, *, num_warps: int, registers: int, shared_bytes: int
) -> Occupancy:
    """The occupancy of programs of ``num_warps`` warps.

    Args:
        architecture: the limits.
        num_warps: of one program.
        registers: of one lane.
        shared_bytes: of one program.
    """
    granule = architecture.register_granule
    rounded = max(granule, -(-registers // granule) * granule)
    partition_warps = min(architecture.warps_per_partition, architecture.registers // rounded)
    shared = shared_bytes + architecture.shared_reserved
    programs = {
        "hardware": min(
            architecture.programs_per_unit,
            architecture.warps_per_partition * architecture.partitions // num_warps,
        ),
        "registers": partition_warps * architecture.partitions // num_warps,
        "shared memory": architecture.shared_per_unit // shared if shared else 1 << 30,
    }
    limit = min(programs, key=programs.__getitem__)
    return Occupancy(
        warps=programs[limit] * num_warps,
        most_warps=architecture.warps_per_partition * architecture.partitions,
        limited_by=limit,
    )
