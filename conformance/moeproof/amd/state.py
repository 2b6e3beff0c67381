"""The state of a group of waves that stand at one instruction: registers, by number and type.

An operand is numbered as in AMD's 9-bit source operands: scalar registers from 0, constants from
128, vector registers from 256 (here without an upper end, for AccVGPRs follow the VGPRs in one
file). Three more are ours: a half register, a value moved from other lanes, a literal constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moeproof.amd.lds import Lds
from moeproof.amd.memory import AddressSpace

Array: TypeAlias = NDArray[Any]

NUM_SCALARS = 128
VCC, EXEC = 106, 126
FIRST_CONSTANT, FIRST_VECTOR = 128, 256
HIGH_HALF = 1 << 20
MOVED = 1 << 30
LITERAL = 1 << 40

# A NaN in float32, float16 and bfloat16, and far outside of every allocation as an address.
POISON = 0xFFF7FFF7

_FLOATS = {
    240: 0.5,
    241: -0.5,
    242: 1.0,
    243: -1.0,
    244: 2.0,
    245: -2.0,
    246: 4.0,
    247: -4.0,
    248: 0.15915494309189532,  # 1 / (2 pi)
}


@dataclass(frozen=True)
class Gang:
    """What the waves of some workgroups share while they run.

    workgroup: which of the gang's workgroups a wave belongs to, `(waves,)`. lanes: of a wave, 32 or
    64. scratch: address of the private memory of the first lane of the first wave; the lanes'
    follow one another, scratch_size bytes each. code: address of the code object's image.
    """

    memory: AddressSpace
    lds: Lds
    workgroup: NDArray[np.int64]
    lanes: int
    code: int
    scratch: int
    scratch_size: int


class Views(dict[int, Array]):
    """Operand number -> its value as one type; made when first asked for.

    A scalar register is `(waves, 1)`, a vector register `(waves, lanes)`, a constant has no axes:
    so all of them broadcast. Registers are views: writing into one writes the register.
    """

    def __init__(self, make: Callable[[int], Array]) -> None:
        self._make = make

    def __missing__(self, operand: int) -> Array:
        view = self[operand] = self._make(operand)
        return view


class Waves:
    """Some waves of a gang: their registers, and what they share with the other waves.

    Attributes:
        gang: memory, LDS and sizes. index: which waves of the gang these are, `(waves,)`.
        vector: uint32 `(registers, waves, lanes)`. scalar: uint32 `(waves, 128)`, numbered as
            operands, VCC and EXEC among them. scc: bool `(waves, 1)`.
        saturates: the FP16_OVFL bit of MODE, bool `(waves, 1)`.
        f16, u16, i16, f32, u32, i32: operand number -> value. f64, u64, i64: of scalar registers
            and constants only, for a vector register's two halves lie apart; see `pair`.
        mask: which lanes are active, bool `(waves, lanes)`; True when all of them are.
    """

    def __init__(
        self,
        gang: Gang,
        *,
        index: NDArray[np.int64],
        vector: NDArray[np.uint32],
        scalar: NDArray[np.uint32],
        scc: NDArray[np.bool_],
        saturates: NDArray[np.bool_],
    ) -> None:
        self.gang, self.index = gang, index
        self.workgroup = gang.workgroup[index]
        self.vector, self.scalar, self.scc = vector, scalar, scc
        self.saturates = saturates
        _, self.waves, self.lanes = vector.shape
        self.f16, self.u16, self.i16 = (self._views(t) for t in (np.float16, np.uint16, np.int16))
        self.f32, self.u32, self.i32 = (self._views(t) for t in (np.float32, np.uint32, np.int32))
        self.f64, self.u64, self.i64 = (self._views(t) for t in (np.float64, np.uint64, np.int64))
        self._moved: NDArray[np.uint32] | None = None
        self.mask: Array | bool = True
        self.refresh_mask()

    @classmethod
    def poisoned(cls, gang: Gang, *, num_vectors: int) -> Waves:
        """All waves of the gang; every register holds POISON and all lanes are active."""
        waves = len(gang.workgroup)
        scalar = np.full((waves, NUM_SCALARS), POISON, np.uint32)
        scalar[:, EXEC : EXEC + gang.lanes // 32] = 0xFFFFFFFF
        return cls(
            gang,
            index=np.arange(waves),
            vector=np.full((num_vectors, waves, gang.lanes), POISON, np.uint32),
            scalar=scalar,
            scc=np.zeros((waves, 1), bool),
            saturates=np.zeros((waves, 1), bool),
        )

    def of_waves(self, chosen: Array) -> Waves:
        """A copy with some of these waves; `chosen` is an index array or a mask."""
        return Waves(
            self.gang,
            index=self.index[chosen],
            vector=self.vector[:, chosen],
            scalar=self.scalar[chosen],
            scc=self.scc[chosen],
            saturates=self.saturates[chosen],
        )

    @staticmethod
    def joined(parts: list[Waves]) -> Waves:
        """A copy of the waves of all parts, in their order."""
        return Waves(
            parts[0].gang,
            index=np.concatenate([part.index for part in parts]),
            vector=np.concatenate([part.vector for part in parts], axis=1),
            scalar=np.concatenate([part.scalar for part in parts]),
            scc=np.concatenate([part.scc for part in parts]),
            saturates=np.concatenate([part.saturates for part in parts]),
        )

    def refresh_mask(self) -> None:
        """To be called after each write to EXEC."""
        lanes = self.bools(EXEC)
        self.mask = True if lanes.all() else lanes

    def full_mask(self) -> NDArray[np.bool_]:
        """The active lanes, `(waves, lanes)` in any case."""
        if self.mask is True:
            return np.ones((self.waves, self.lanes), bool)
        return self.mask  # type: ignore[return-value]

    def bools(self, operand: int) -> NDArray[np.bool_]:
        """A scalar mask, one bit a lane, as `(waves, lanes)`."""
        if self.lanes == 32:
            bits = self.u32[operand]
            width = 4
        else:
            bits = self.u64[operand]
            width = 8
        if bits.ndim == 0:
            bits = np.broadcast_to(bits, (self.waves, 1))
        octets = np.ascontiguousarray(bits).view(np.uint8).reshape(self.waves, width)
        return np.unpackbits(octets, axis=1, bitorder="little").view(bool)

    def set_bools(self, operand: int, lanes: Array) -> None:
        """Writes `(waves, lanes)` as a scalar mask."""
        octets = np.packbits(lanes, axis=1, bitorder="little")
        if self.lanes == 32:
            self.u32[operand][...] = octets.view(np.uint32)
        else:
            self.u64[operand][...] = octets.view(np.uint64)
        if operand == EXEC:
            self.refresh_mask()

    def lend(self, value: NDArray[np.uint32]) -> None:
        """Makes `value (waves, lanes)` the operand MOVED, until the next call."""
        self._moved = value
        for views in (self.f32, self.u32, self.i32, self.f16, self.u16, self.i16):
            views.pop(MOVED, None)

    def pair(self, operand: int) -> NDArray[np.uint64]:
        """Two registers from `operand` on, or a constant, as one 64-bit value."""
        if FIRST_VECTOR <= operand < LITERAL:
            high = self.u32[operand + 1].astype(np.uint64)
            return (high << np.uint64(32)) | self.u32[operand]
        return self.u64[operand]

    def set_pair(self, operand: int, value: Array) -> None:
        """Writes a 64-bit value of any type, in the active lanes, to two vector registers."""
        whole = np.ascontiguousarray(np.broadcast_to(value, (self.waves, self.lanes)))
        halves = whole.view(np.uint32)
        np.copyto(self.u32[operand], halves[:, 0::2], where=self.mask)
        np.copyto(self.u32[operand + 1], halves[:, 1::2], where=self.mask)

    def _views(self, dtype: type[np.generic]) -> Views:
        kind = np.dtype(dtype)
        return Views(lambda operand: self._view(operand, kind))

    def _view(self, operand: int, kind: np.dtype[Any]) -> Any:
        if operand >= LITERAL:
            return _literal(operand - LITERAL, kind)
        if operand == MOVED and self._moved is not None:
            moved = np.ascontiguousarray(self._moved).view(kind)
            return moved[:, ::2] if kind.itemsize == 2 else moved
        high, operand = divmod(operand, HIGH_HALF)
        if operand >= FIRST_VECTOR:
            if kind.itemsize == 8:
                raise TypeError("a vector register is 32 bits wide")
            register = self.vector[operand - FIRST_VECTOR].view(kind)
            return register[:, high::2] if kind.itemsize == 2 else register
        if operand < NUM_SCALARS:
            words = self.scalar.view(kind)
            per_register = 4 / kind.itemsize
            column = int(operand * per_register) + high
            return words[:, column : column + 1]
        return _constant(operand, kind)


def _literal(bits: int, kind: np.dtype[Any]) -> Array:
    """How a 32-bit literal is widened: RDNA3 ISA, section 3.1, "Literal constants"."""
    if kind.itemsize == 2:
        return np.array(bits & 0xFFFF, np.uint16).view(kind)
    if kind.itemsize == 4:
        return np.array(bits, np.uint32).view(kind)
    if kind.kind == "f":
        return np.array(bits << 32, np.uint64).view(kind)
    if kind.kind == "i":
        return np.array(bits, np.uint32).view(np.int32).astype(np.int64)
    return np.array(bits, np.uint64)


def _constant(operand: int, kind: np.dtype[Any]) -> Array:
    """An inline constant: RDNA3 ISA, section 3.1, table "Scalar operands"."""
    signed = np.dtype(f"i{kind.itemsize}")
    if FIRST_CONSTANT <= operand <= 192:
        return np.array(operand - FIRST_CONSTANT, signed).view(kind)
    if 193 <= operand <= 208:
        return np.array(192 - operand, signed).view(kind)
    if operand in _FLOATS:
        return np.array(_FLOATS[operand], f"f{kind.itemsize}").view(kind)
    raise KeyError(f"source operand {operand}")
