"""Pictures of verdicts: a claim's cases, and the whole ledger."""

from __future__ import annotations

from typing import get_args

import pandas as pd
from matplotlib.figure import Figure

from anomaly_transfer.claims.ledger import State, claims, frame, recorded
from anomaly_transfer.pages import plots


def draw(claim_id: str) -> Figure:
    """The recorded cases of a claim as a figure.

    Raises
    ------
    ValueError
        If there is no such claim, or it has no cases.
    """
    claim = next((claim for claim in claims() if claim.id == claim_id), None)
    finding = recorded().get(claim_id)
    if claim is None or finding is None or not finding.cases:
        raise ValueError(f"There are no recorded cases of a claim {claim_id!r}.")
    plots.use_style()
    bounds = [-claim.threshold, claim.threshold] if claim.holds == "within" else [claim.threshold]
    return plots.claim_cases(frame(finding), bounds, claim.measure)


def draw_board() -> Figure:
    """All recorded verdicts as a figure."""
    entries, findings = claims(), recorded()
    rows = {
        claim.title: {
            state: findings[claim.id].count(state) / max(len(findings[claim.id].cases), 1) for state in get_args(State)
        }
        | {"verdict": findings[claim.id].verdict}
        for claim in entries
    }
    return plots.claim_board(pd.DataFrame.from_dict(rows, orient="index"), [claim.id[:2] for claim in entries])
