"""The GPUs that code can be compiled for without having one, and their limits."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True)
class Architecture:
    """What a compiler must respect, and what decides how many warps are resident.

    A *unit* is a streaming multiprocessor (NVIDIA) or a compute unit (AMD); it has several
    *partitions* (SIMDs), each with a register file of its own. A warp is a wave on AMD.

    Attributes:
        name: ``sm_90``, ``gfx942``.
        backend: Triton's name of the vendor: "cuda" or "hip".
        warp_size: lanes of a warp.
        shared_limit: bytes of shared memory (LDS) that one program may use.
        shared_per_unit: bytes that the programs on one unit share.
        shared_reserved: bytes that the system takes of them for each program.
        partitions: of a unit.
        registers: 32-bit registers per lane of a partition, to be split between its warps.
        register_granule: a warp's registers per lane are rounded up to a multiple of this.
        warps_per_partition: the most that are resident.
        programs_per_unit: the most that are resident.
        units: of the largest product.
        tf32_products: the matrix unit multiplies float32 operands in a shorter format.
    """

    name: str
    backend: str
    warp_size: int
    shared_limit: int
    shared_per_unit: int
    shared_reserved: int
    partitions: int
    registers: int
    register_granule: int
    warps_per_partition: int
    programs_per_unit: int
    units: int
    tf32_products: bool


def _nvidia(name: str, *, shared: int, warps: int, programs: int, units: int) -> Architecture:
    """CUDA C++ Programming Guide, "Compute Capabilities": 64 Ki registers a multiprocessor in four
    partitions, allocated 256 a warp at a time; 1 KiB of shared memory a program is the system's.
    """
    return Architecture(
        name=name,
        backend="cuda",
        warp_size=32,
        shared_limit=(shared - 1) * KIB,
        shared_per_unit=shared * KIB,
        shared_reserved=KIB,
        partitions=4,
        registers=512,
        register_granule=8,
        warps_per_partition=warps // 4,
        programs_per_unit=programs,
        units=units,
        tf32_products=True,
    )


def _cdna(name: str, *, shared: int, units: int, tf32_products: bool = False) -> Architecture:
    """AMD Instinct CDNA ISA references, "Register File" and "LDS": 512 registers a lane, vector and
    accumulation registers together; LLVM's AMDGPU usage: allocated by 8, at most 8 waves a SIMD.
    """
    return Architecture(
        name=name,
        backend="hip",
        warp_size=64,
        shared_limit=shared * KIB,
        shared_per_unit=shared * KIB,
        shared_reserved=0,
        partitions=4,
        registers=512,
        register_granule=8,
        warps_per_partition=8,
        programs_per_unit=32,
        units=units,
        tf32_products=tf32_products,
    )


def _rdna(name: str, *, units: int) -> Architecture:
    """AMD RDNA ISA references and LLVM's AMDGPU usage: 1536 registers a lane with 32 lanes,
    allocated by 24, at most 16 waves a SIMD; 64 KiB of LDS a workgroup, 128 KiB for two units.
    """
    return Architecture(
        name=name,
        backend="hip",
        warp_size=32,
        shared_limit=64 * KIB,
        shared_per_unit=64 * KIB,
        shared_reserved=0,
        partitions=2,
        registers=1536,
        register_granule=24,
        warps_per_partition=16,
        programs_per_unit=32,
        units=units,
        tf32_products=False,
    )


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        _nvidia("sm_80", shared=164, warps=64, programs=32, units=108),
        _nvidia("sm_90", shared=228, warps=64, programs=32, units=132),
        _nvidia("sm_100", shared=228, warps=64, programs=32, units=148),
        _nvidia("sm_120", shared=100, warps=48, programs=24, units=188),
        _cdna("gfx90a", shared=64, units=110),
        _cdna("gfx942", shared=64, units=304, tf32_products=True),
        _cdna("gfx950", shared=160, units=256),
        _rdna("gfx1100", units=96),
        _rdna("gfx1201", units=64),
    )
}
"""By name, in the order in which they are listed."""
