"""What the page shows is computed right: grids, histograms, drawings, suspects."""

from __future__ import annotations

import math
import re
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeproof.report.page.distribution import histograms
from moeproof.report.page.evidence import LEVELS, _chunk, expert_load, heat_map
from moeproof.report.page.failures import anchors_of, failure_groups
from moeproof.report.page.group_traits import group_traits
from moeproof.report.page.matrix import matrices
from moeproof.report.page.summary import slowest_cases
from moeproof.report.page.suspects import Suspect, suspects
from moeproof.report.page.traits import judged_verdicts, read_traits
from moeproof.verdict import Outcome, WorstElement

P, F, E, U = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, Outcome.UNSUPPORTED


@pytest.fixture
def judged(make_report, make_verdict):
    """Verdicts of (case id, outcome) pairs, or of (case id, outcome, changes)."""

    def judged(*rows):
        verdicts = [
            make_verdict(case_id, outcome=outcome, **(changes[0] if changes else {}))
            for case_id, outcome, *changes in rows
        ]
        return judged_verdicts(make_report(verdicts))

    return judged


def expert_case(T=33, pattern="zipf", dtype="bf16", values="random", layout="contiguous", seed=0):
    return f"T{T}-H64-I96-E8-K2-{dtype}/{pattern}/{values}/{layout}/{seed}"


class TestTraits:
    def test_of_an_expert_case(self):
        traits = read_traits(expert_case(pattern="group_sizes:5+0+3"))
        assert traits.target == "experts"
        assert traits.named["pattern"] == "group_sizes:5+0+3"
        assert (traits.named["T"], traits.named["K"]) == ("33", "2")

    def test_of_what_unwritten_memory_holds(self):
        assert read_traits(expert_case()).named["unwritten"] == "nan"
        assert read_traits(f"{expert_case()}/ones").named["unwritten"] == "ones"

    def test_of_a_router_case(self):
        case_id = "route-T5-E256-K8-sigmoid-renormalized-bias-G8x4-scale2.5-fp32/ties/0"
        traits = read_traits(case_id)
        assert traits.target == "router"
        assert traits.named["groups"] == "8x4"
        assert traits.named["logits"] == "ties"

    def test_a_long_argument_is_left_out(self):
        pattern = "group_sizes:" + "+".join(["1"] * 256)
        assert read_traits(expert_case(pattern=pattern)).named["pattern"] == "group_sizes:..."

    @pytest.mark.parametrize("case_id", ["", "a/b/c/d/e", "route-x/y/0", "T1/zipf", "///"])
    def test_an_id_of_another_version_is_other(self, case_id):
        assert read_traits(case_id).target == "other"


class TestMatrix:
    @pytest.fixture
    def grid(self, judged):
        """The first grid of verdicts that lie in one cell, and of another pattern's."""

        def grid(*outcomes):
            rows = [(expert_case(seed=seed), outcome) for seed, outcome in enumerate(outcomes)]
            items = judged(*rows, (expert_case(pattern="uniform"), P))
            return matrices(items, anchors_of(failure_groups(items)))[0]

        return grid

    @pytest.mark.parametrize(
        ("outcomes", "worst", "mixed"),
        [
            ([P, P], P, False),
            ([P, F, E, U], F, False),
            ([P, E, U], E, False),
            ([P, U], P, True),
            ([U, U], U, False),
        ],
    )
    def test_a_cell_is_its_worst_outcome(self, grid, outcomes, worst, mixed):
        matrix = grid(*outcomes)
        (line, (cell,)) = matrix.rows[-1]
        assert line.label == "zipf"
        assert (cell.outcome, cell.mixed) == (worst, mixed)
        assert (cell.anchor is not None) == (worst in (F, E))

    def test_a_cell_counts_all_that_lie_in_it(self, grid):
        ((_, (_,)), (_, (cell,))) = grid(P, P, F, U).rows
        assert cell.counts == "1 FAIL, 1 UNSUPPORTED, 2 PASS"

    def test_rows_and_columns(self, judged):
        items = judged(
            (expert_case(pattern="zipf", dtype="fp16"), P),
            (expert_case(pattern="uniform", dtype="fp16"), P),
            (expert_case(T=5, pattern="uniform"), P),
            (expert_case(T=5, pattern="zipf"), P),
            (expert_case(T=33, pattern="zipf"), P),
            (expert_case(T=33, pattern="from_the_future"), P),
            (expert_case(T=77, pattern="zipf"), P),
            ("route-T5-E8-K2-softmax-fp32/ties/0", P),
        )
        patterns, values, layouts, sizes, routers = matrices(items, {})
        assert [line.label for line, _ in patterns.rows] == ["uniform", "zipf", "from_the_future"]
        assert patterns.column_groups == (("bf16", 2), ("fp16", 1))
        assert [line.label.split()[0] for line in patterns.columns] == ["T5", "T33", "T33"]
        assert [[cell is not None for cell in cells] for _, cells in patterns.rows] == [
            [True, False, True],
            [True, True, True],
            [False, True, False],
        ]
        assert [line.label for line, _ in values.rows] == ["random"]
        assert [line.label for line, _ in layouts.rows] == ["contiguous"]
        assert [line.label.split()[0] for line, _ in sizes.rows] == ["T5", "T33", "T77"]
        assert [line.label for line, _ in routers.rows] == ["T5-E8-K2-softmax-fp32"]

    def test_no_verdicts_no_grids(self):
        assert matrices([], {}) == []


class TestSuspects:
    def run(self, judged, is_broken):
        """Two dtypes, three layouts, two patterns, five seeds."""
        return judged(
            *(
                (case_id, F if is_broken(case_id) else P)
                for dtype in ("bf16", "fp16")
                for layout in ("contiguous", "offset", "transposed")
                for pattern in ("round_robin", "uniform")
                for seed in range(5)
                for case_id in [expert_case(dtype=dtype, layout=layout, pattern=pattern, seed=seed)]
            )
        )

    def test_one_trait(self, judged):
        items = self.run(judged, lambda case_id: "offset" in case_id)
        assert suspects(items) == [Suspect((("layout", "offset"),), 20, 20)]

    def test_two_traits(self, judged):
        items = self.run(judged, lambda case_id: "fp16/round_robin" in case_id)
        assert suspects(items) == [Suspect((("dtype", "fp16"), ("pattern", "round_robin")), 15, 15)]

    def test_of_equally_telling_ones_the_simplest(self, judged):
        items = judged(
            (expert_case(layout="offset", dtype="fp16"), F),
            (expert_case(dtype="fp16"), P),
            (expert_case(), P),
        )
        assert suspects(items) == [Suspect((("layout", "offset"),), 1, 1)]

    def test_two_causes_are_told_apart(self, judged):
        items = self.run(
            judged, lambda case_id: "offset" in case_id or "fp16/round_robin" in case_id
        )
        assert suspects(items) == [
            Suspect((("layout", "offset"),), 20, 20),
            Suspect((("dtype", "fp16"), ("pattern", "round_robin")), 10, 10),
        ]

    def test_every_failure_is_counted_once(self, judged):
        items = self.run(judged, lambda case_id: crc32(case_id.encode()) % 3 == 0)
        assert sum(suspect.broken for suspect in suspects(items)) <= sum(
            item.broken for item in items
        )

    def test_no_failure_no_suspect(self, judged):
        assert suspects(self.run(judged, lambda case_id: False)) == []

    def test_what_all_share_is_no_suspect(self, judged):
        items = self.run(judged, lambda case_id: "offset" in case_id)
        named = {name for suspect in suspects(items) for name, _ in suspect.traits}
        assert named == {"layout"}

    def test_where_nearly_all_fail_nothing_tells_them_apart(self, judged):
        assert suspects(self.run(judged, lambda case_id: True)) == []
        assert suspects(self.run(judged, lambda case_id: "fp16/uniform" not in case_id)) != []
        scattered = self.run(judged, lambda case_id: not case_id.endswith("/3"))
        assert suspects(scattered) == []

    def test_unsupported_is_not_judged(self, judged):
        items = judged(
            (expert_case(layout="offset"), F),
            (expert_case(layout="offset", seed=1), U),
            (expert_case(), P),
        )
        assert suspects(items) == [Suspect((("layout", "offset"),), 1, 1)]

    def test_what_routing_says_counts_as_well(self, judged):
        """Patterns that fill an expert with more than 16 rows fail, others do not."""
        items = judged(
            *(
                (expert_case(pattern=pattern, seed=seed), outcome)
                for pattern, outcome in (
                    ("same_experts", F),
                    ("half_to_one", F),
                    ("uniform", P),
                    ("round_robin", P),
                )
                for seed in range(3)
            )
        )
        assert suspects(items) == [Suspect((("fullest expert over 16 rows", "yes"),), 6, 6)]


class TestGroupTraits:
    def test_of_group_sizes(self):
        traits = group_traits("T65-H8-I8-E3-K1-fp32/group_sizes:64+0+1/random/contiguous/0")
        assert traits["fullest expert over 32 rows"] == "yes"
        assert traits["fullest expert over 64 rows"] == "no"
        assert (traits["idle experts"], traits["masked ids"]) == ("yes", "no")

    def test_of_masked_ids(self):
        traits = group_traits("T9-H8-I8-E2-K1-fp32/masked_group_sizes:5+3/random/contiguous/0")
        assert (traits["idle experts"], traits["masked ids"]) == ("no", "yes")

    @pytest.mark.parametrize(
        "case_id", ["route-T5-E8-K2-softmax-fp32/ties/0", "T5-E8/of/another/version/0"]
    )
    def test_of_what_has_no_groups(self, case_id):
        assert group_traits(case_id) == {}


class TestHistogram:
    def bars(self, judged, *ratios):
        items = judged(
            *(
                (expert_case(seed=seed), P, {"figures": {"max_error_ratio": ratio}})
                for seed, ratio in enumerate(ratios)
            )
        )
        (histogram,) = histograms(items)
        return histogram

    @pytest.mark.parametrize("ratio", [0.0, 5e-324, 1e-3, 0.01, 0.5, math.nextafter(1, 0), 1.0])
    def test_up_to_one_is_inside(self, judged, ratio):
        histogram = self.bars(judged, ratio)
        assert [bar.outside for bar in histogram.bars] == [False]
        assert histogram.outside == 0
        assert histogram.closest == (expert_case(), ratio)

    @pytest.mark.parametrize("ratio", [math.nextafter(1, 2), 2.0, 1e3, 1e300, math.inf, math.nan])
    def test_above_one_is_outside(self, judged, ratio):
        histogram = self.bars(judged, ratio)
        assert [bar.outside for bar in histogram.bars] == [True]
        assert histogram.outside == 1
        assert histogram.closest is None

    @given(ratios=st.lists(st.floats(0) | st.just(math.nan), min_size=1))
    def test_every_case_is_in_one_bar_within_the_drawing(self, ratios):
        from moeproof.report.page.distribution import HEIGHT, WIDTH, _bars

        bars = _bars([math.inf if math.isnan(ratio) else ratio for ratio in ratios])
        counts = [int(re.search(r": (\d+) case", bar.title)[1]) for bar in bars]
        assert sum(counts) == len(ratios)
        for bar in bars:
            assert 0 <= bar.x < bar.x + bar.width <= WIDTH
            assert 0 <= bar.y < bar.y + bar.height <= HEIGHT + 1e-9

    def test_one_for_each_check_and_dtype(self, judged):
        figures = {"figures": {"max_error_ratio": 0.5}}
        items = judged(
            (expert_case(), P, figures),
            (expert_case(dtype="fp16"), P, figures),
            (expert_case(), P, {**figures, "check": "metamorphic"}),
            (expert_case(), P, {"check": "memory"}),
        )
        found = [(histogram.check, histogram.dtype) for histogram in histograms(items)]
        assert found == [("accuracy", "bf16"), ("accuracy", "fp16"), ("metamorphic", "bf16")]


class TestDrawings:
    @given(
        st.integers(1, 12).flatmap(
            lambda columns: st.lists(
                st.lists(st.floats(0), min_size=columns, max_size=columns), min_size=1, max_size=9
            )
        )
    )
    def test_each_cell_is_painted_once_in_its_shade(self, grid):
        drawing = heat_map({"error_ratio_map": grid, "shape": [90, 120]}, None)
        painted = np.zeros((drawing.rows, drawing.columns), dtype=int)
        limits = [0.0, *(limit for limit, _ in LEVELS), math.inf]
        for level, _, path in drawing.shades:
            for x, y, run in re.findall(r"M(\d+),(\d+)h(\d+)v1h-\3z", path):
                for column in range(int(x), int(x) + int(run)):
                    painted[int(y), column] += 1
                    assert limits[level] <= grid[int(y)][column] <= limits[level + 1]
        assert (painted == 1).all()

    @pytest.mark.parametrize(("ratio", "level"), [(0.5, 0), (1.0, 1), (1.01, 2), (math.nan, 5)])
    def test_the_bound_lies_between_two_shades(self, ratio, level):
        drawing = heat_map({"error_ratio_map": [[ratio]], "shape": [1, 1]}, None)
        assert [shade[0] for shade in drawing.shades] == [level]

    @given(size=st.integers(1, 200), data=st.data())
    def test_chunks_are_those_of_array_split(self, size, data):
        chunks = data.draw(st.integers(1, size))
        expected = np.concatenate(
            [
                np.full(len(part), n)
                for n, part in enumerate(np.array_split(np.arange(size), chunks))
            ]
        )
        assert [_chunk(index, size, chunks) for index in range(size)] == expected.tolist()

    def test_the_worst_element_is_marked(self):
        worst = WorstElement(32, 63, (2, 0), 0.0, 1.0, 2.0, 9.0)
        evidence = {
            "error_ratio_map": [[0.0] * 48] * 32,
            "shape": [33, 64],
            "tokens_per_expert": [5, 0, 10],
        }
        assert heat_map(evidence, worst).worst == (47, 31)
        load = expert_load(evidence, worst)
        assert [(expert, tokens, marked) for expert, tokens, _, marked in load.bars] == [
            (0, 5, True),
            (2, 10, True),
        ]
        assert (load.experts, load.most, load.empty) == (3, 10, 1)

    def test_no_token_at_all(self):
        load = expert_load({"tokens_per_expert": [0, 0]}, None)
        assert (load.bars, load.most, load.empty) == ((), 0, 2)


class TestFailureGroups:
    def test_anchors_are_unique_and_cover_all_failures(self, judged):
        items = judged(
            *((expert_case(T=T), F, {"check": check}) for T in range(1, 60) for check in "ab"),
            (expert_case(), P, {"check": "c"}),
        )
        groups = failure_groups(items)
        assert [(group.check, group.total) for group in groups] == [("a", 59), ("b", 59)]
        anchors = anchors_of(groups)
        assert len(set(anchors.values())) == len(anchors) == 118

    def test_a_long_message_keeps_both_ends(self, judged):
        message = "first" + "x" * 10_000 + "last"
        ((group),) = failure_groups(judged((expert_case(), E, {"message": message})))
        shown = group.detailed[0].message
        assert len(shown) < 4_100
        assert shown.startswith("first")
        assert shown.endswith("last")
        assert "6,009 characters, see report.jsonl" in shown

    def test_the_worst_element_is_not_said_twice(self, judged):
        worst = WorstElement(1, 2, (3,), 4.0, 5.0, 6.0, 7.0)
        message = f"1 of 9 elements is outside; worst: {worst}"
        (group,) = failure_groups(judged((expert_case(), F, {"message": message, "worst": worst})))
        assert group.detailed[0].message == "1 of 9 elements is outside"


def test_slowest_cases_sum_their_checks(make_report, make_verdict):
    report = make_report(
        [
            make_verdict(expert_case(), seconds=1.0),
            make_verdict(expert_case(seed=1), seconds=1.5),
            make_verdict(expert_case(), "memory", seconds=1.0),
        ]
    )
    assert [(case_id, seconds) for case_id, seconds, _ in slowest_cases(report)] == [
        (expert_case(), 2.0),
        (expert_case(seed=1), 1.5),
    ]
