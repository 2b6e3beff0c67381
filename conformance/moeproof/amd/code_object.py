"""Reads an AMD code object: the ELF file that Triton's compiler makes of a kernel.

Layouts: LLVM's "User Guide for AMDGPU Backend", sections "Code Object", "Kernel Descriptor" and
"Code Object V5 Metadata".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgpack
from elftools.elf.elffile import ELFFile

_METADATA_NOTE = 32
_MACHINE_AMDGPU = "EM_AMDGPU"


class CodeObjectError(ValueError):
    """The bytes are not a code object that this package can load."""


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel, where it lies in the kernarg segment.

    kind is the metadata's `.value_kind`, such as "global_buffer", "by_value" or
    "hidden_block_count_x"; offset and size are in bytes.
    """

    kind: str
    offset: int
    size: int

    @property
    def hidden(self) -> bool:
        """Whether the launcher, not the caller, gives its value."""
        return self.kind.startswith("hidden_")


@dataclass(frozen=True)
class KernelDescription:
    """What a launch must know of one kernel. Sizes are in bytes, addresses relative to the image.

    group_segment is the LDS that the kernel declares (Triton's is dynamic and comes with the
    launch); private_segment is the scratch memory of one lane.
    """

    name: str
    entry: int
    arguments: tuple[Argument, ...]
    kernarg_segment: int
    group_segment: int
    private_segment: int
    wavefront_size: int
    num_vgprs: int
    num_sgprs: int
    resources: tuple[int, int, int]
    properties: int
    preload: int

    @property
    def accumulator_offset(self) -> int:
        """Where AccVGPRs begin in a wave's unified registers (CDNA)."""
        return ((self.resources[2] & 0x3F) + 1) * 4


@dataclass(frozen=True)
class CodeObject:
    """A loaded code object: its architecture, its memory image and its kernels."""

    arch: str
    image: bytes
    text: range
    kernels: Mapping[str, KernelDescription]

    @cached_property
    def translations(self) -> dict[Any, Any]:
        """A place for what is derived from the instructions once, such as translated blocks."""
        return {}


def _metadata(elf: ELFFile) -> dict[str, Any]:
    for segment in elf.iter_segments("PT_NOTE"):
        for note in segment.iter_notes():
            if note["n_type"] in (_METADATA_NOTE, "NT_AMDGPU_METADATA"):
                described = note["n_descdata"]
                return msgpack.unpackb(described, raw=False)  # type: ignore[no-any-return]
    raise CodeObjectError("the code object has no metadata note")


def load_code_object(hsaco: bytes) -> CodeObject:
    """Loads the segments and reads the description of each kernel.

    Raises CodeObjectError when `hsaco` is not an AMD GPU's ELF file, or needs relocations.
    """
    if hsaco[:4] != b"\x7fELF":
        raise CodeObjectError(f"not an ELF file: it begins with {hsaco[:4]!r}")
    elf = ELFFile(io.BytesIO(hsaco))
    if elf["e_machine"] != _MACHINE_AMDGPU:
        raise CodeObjectError(f"made for {elf['e_machine']}, not for {_MACHINE_AMDGPU}")
    segments = list(elf.iter_segments("PT_LOAD"))
    image = bytearray(max(s["p_vaddr"] + s["p_memsz"] for s in segments))
    for segment in segments:
        start = segment["p_vaddr"]
        image[start : start + segment["p_filesz"]] = segment.data()
    for section in elf.iter_sections():
        if section["sh_type"] in ("SHT_RELA", "SHT_REL") and section["sh_size"]:
            raise CodeObjectError(f"section {section.name} holds relocations: not supported")
    metadata = _metadata(elf)
    text = elf.get_section_by_name(".text")
    symbols = {
        symbol.name: symbol["st_value"]
        for section in ("SHT_DYNSYM", "SHT_SYMTAB")
        for table in elf.iter_sections(section)
        for symbol in table.iter_symbols()
    }
    kernels = {
        kernel[".name"]: _describe(kernel, symbols[kernel[".symbol"]], bytes(image))
        for kernel in metadata["amdhsa.kernels"]
    }
    return CodeObject(
        arch=metadata["amdhsa.target"].rsplit("-", 1)[1].split(":")[0],
        image=bytes(image),
        text=range(text["sh_addr"], text["sh_addr"] + text["sh_size"]),
        kernels=kernels,
    )


def _describe(metadata: Mapping[str, Any], descriptor: int, image: bytes) -> KernelDescription:
    group, private, kernarg = struct.unpack_from("<III", image, descriptor)
    (entry,) = struct.unpack_from("<q", image, descriptor + 16)
    third, first, second, properties, preload = struct.unpack_from("<IIIHH", image, descriptor + 44)
    return KernelDescription(
        name=metadata[".name"],
        entry=descriptor + entry,
        arguments=tuple(
            Argument(kind=a[".value_kind"], offset=a[".offset"], size=a[".size"])
            for a in metadata[".args"]
        ),
        kernarg_segment=kernarg,
        group_segment=group,
        private_segment=private,
        wavefront_size=metadata[".wavefront_size"],
        num_vgprs=metadata[".vgpr_count"],
        num_sgprs=metadata[".sgpr_count"],
        resources=(first, second, third),
        properties=properties,
        preload=preload,
    )
