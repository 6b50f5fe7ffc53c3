"""Coverage: what was asked against what arrived, role by role and node by node, each statement with its evidence."""

from bridge.collection.coverage._assess import assess
from bridge.collection.coverage._result import Coverage, CoverageRequest, RoleState

__all__ = ["Coverage", "CoverageRequest", "RoleState", "assess"]
