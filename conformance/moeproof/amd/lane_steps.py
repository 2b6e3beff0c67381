"""Steps of the instructions that move values between lanes, and operands from other lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from moeproof.amd import lanes
from moeproof.amd.decoding import Instruction
from moeproof.amd.memory_steps import data_register
from moeproof.amd.operands import Fetch, Step, Target, destination, fetch, source, store
from moeproof.amd.state import MOVED, Array, Waves


def step_with_moved_lanes(
    instruction: Instruction, target: Target, make: Callable[[Instruction, Target], Step | None]
) -> Step | None:
    """DPP: the step that `make` gives, with src0 taken from other lanes; None for no DPP."""
    fields = instruction.fields
    if instruction.encoding.endswith("_DPP16"):
        move = lanes.dpp_move(fields["dpp"], target.lanes)
        options: dict[str, Any] = {
            "bound_control": bool(fields["bc"]),
            "fetch_inactive": bool(fields.get("fi", 0)),
            "row_mask": fields["row_mask"],
            "bank_mask": fields["bank_mask"],
        }
    elif instruction.encoding.endswith("_DPP8"):
        selects = sum(fields[f"lane_sel_{i}"] << 3 * i for i in range(8))
        move = lanes.dpp8_move(selects, target.lanes)
        options = {"bound_control": True}
    else:
        return None
    register = fields["src0"]
    plain = replace(
        instruction,
        encoding=instruction.encoding.rsplit("_", 1)[0],
        fields={**fields, "src0": MOVED},
    )
    inner = make(plain, target)
    if inner is None:
        return None
    changes_mask = instruction.name.startswith("v_cmpx")

    def step(waves: Waves) -> None:
        active = waves.mask
        taken, written = lanes.moved(waves.u32[register], active, move, **options)
        waves.lend(taken)
        waves.mask = written
        inner(waves)
        waves.mask = active
        if changes_mask:
            waves.refresh_mask()

    return step


def lane_step(instruction: Instruction, target: Target) -> Step | None:
    """The step of an instruction of this module; None for any other."""
    make = LANE_INSTRUCTIONS.get(instruction.name)
    return make(instruction, target) if make else None


def _wide(operand: int) -> Fetch:
    """A register's value as `(waves, lanes)`, also of a scalar one."""
    value = fetch("u32", operand)
    return lambda waves: np.broadcast_to(value(waves), (waves.waves, waves.lanes))


def _read_first_lane(instruction: Instruction, target: Target) -> Step:
    value = _wide(source(instruction, "src0", target))
    result = instruction.fields["vdst"]

    def step(waves: Waves) -> None:
        waves.scalar[:, result] = lanes.read_first_lane(value(waves), waves.mask)

    return step


def _read_lane(instruction: Instruction, target: Target) -> Step:
    value = _wide(source(instruction, "src0", target))
    lane = fetch("u32", source(instruction, "src1", target))
    result = instruction.fields["vdst"]

    def step(waves: Waves) -> None:
        waves.scalar[:, result] = lanes.read_lane(value(waves), lane(waves))

    return step


def _write_lane(instruction: Instruction, target: Target) -> Step:
    value = fetch("u32", source(instruction, "src0", target))
    lane = fetch("u32", source(instruction, "src1", target))
    result = destination(instruction, "vdst", target)

    def step(waves: Waves) -> None:
        register = waves.u32[result]
        register[...] = lanes.write_lane(register, lane(waves), value(waves))

    return step


def _count_below(instruction: Instruction, target: Target) -> Step:
    """v_mbcnt: ones of a mask below the lane, in its lower or its upper 32 bits."""
    mask = fetch("u32", source(instruction, "src0", target))
    addend = fetch("u32", source(instruction, "src1", target))
    put = store("u32", destination(instruction, "vdst", target))
    first = 32 if "_hi_" in instruction.name else 0
    below = [min(max(lane - first, 0), 32) for lane in range(target.lanes)]
    reach = np.array([(1 << count) - 1 for count in below], np.uint32)

    def step(waves: Waves) -> None:
        put(waves, np.bitwise_count(mask(waves) & reach).astype(np.uint32) + addend(waves))

    return step


def _permute_row(instruction: Instruction, target: Target) -> Step:
    value = _wide(source(instruction, "src0", target))
    low = fetch("u32", source(instruction, "src1", target))
    high = fetch("u32", source(instruction, "src2", target))
    result = destination(instruction, "vdst", target)
    other_row = "permlanex" in instruction.name
    modifiers = instruction.fields["opsel"]

    def step(waves: Waves) -> None:
        taken, written = lanes.permlane16(
            value(waves),
            waves.mask,
            low(waves),
            high(waves),
            other_row=other_row,
            fetch_inactive=bool(modifiers & 1),
            bound_control=bool(modifiers & 2),
        )
        np.copyto(waves.u32[result], taken, where=written)

    return step


def _swap_rows(instruction: Instruction, target: Target) -> Step:
    first = destination(instruction, "vdst", target)
    second = source(instruction, "src0", target)
    rows = 32 if "lane32" in instruction.name else 16

    def step(waves: Waves) -> None:
        one, two = waves.u32[first], waves.u32[second]
        one[...], two[...] = lanes.permlane_swap(one, two, waves.mask, rows=rows)

    return step


def _through_crossbar(instruction: Instruction, target: Target) -> Step:
    """ds_bpermute, ds_permute, ds_swizzle: they use the LDS's crossbar, not its memory."""
    fields = instruction.fields
    address = fetch("u32", fields["addr"])
    offset = fields["offset1"] << 8 | fields["offset0"]
    data = data_register(instruction, "data0", target)
    result = data_register(instruction, "vdst", target)

    def exchanged(waves: Waves) -> Array:
        value = waves.vector[data]
        if instruction.name == "ds_bpermute_b32":
            return lanes.bpermute(address(waves), value, waves.mask, offset=offset)
        if instruction.name == "ds_permute_b32":
            return lanes.permute(address(waves), value, waves.mask, offset=offset)
        # A swizzle has its value where the others have their addresses.
        return lanes.swizzle(address(waves), waves.mask, offset=offset)

    def step(waves: Waves) -> None:
        np.copyto(waves.vector[result], exchanged(waves), where=waves.mask)

    return step


LANE_INSTRUCTIONS: dict[str, Callable[[Instruction, Target], Step]] = {
    "v_readfirstlane_b32": _read_first_lane,
    "v_readlane_b32": _read_lane,
    "v_writelane_b32": _write_lane,
    "v_mbcnt_lo_u32_b32": _count_below,
    "v_mbcnt_hi_u32_b32": _count_below,
    "v_permlane16_b32": _permute_row,
    "v_permlanex16_b32": _permute_row,
    "v_permlane16_swap_b32": _swap_rows,
    "v_permlane32_swap_b32": _swap_rows,
    "ds_bpermute_b32": _through_crossbar,
    "ds_permute_b32": _through_crossbar,
    "ds_swizzle_b32": _through_crossbar,
}
