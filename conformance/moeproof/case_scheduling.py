"""How pytest-xdist distributes the suite's tests: by case."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling


class CaseScheduling(LoadScopeScheduling):
    """Tests whose ids end in ``[check-case_id]`` with the same case id go to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        _, _, case_id = nodeid.partition("[")[2].partition("-")
        return case_id or super()._split_scope(nodeid)
