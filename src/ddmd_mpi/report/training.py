"""The rounds of training. Each training rank writes a span for a round that all of them had together."""

from __future__ import annotations

import numpy as np

from ..analysis.records import Record, column, number
from ..analysis.run import Run

#: Keys of an epoch that are not terms of its loss.
NO_TERMS = {"name", "role", "rank", "start", "end", "round", "epoch", "loss", "validation_loss"}
WAYS = {"horovod": "Horovod", "mpi": "MPI"}


def joint_rounds(run: Run) -> list[list[Record]]:
    """The spans of each round, the first training rank's first. All ranks have the same rounds in the same order."""
    by_rank: dict[int, list[Record]] = {}
    for span in run.spans("train_round"):
        by_rank.setdefault(span["rank"], []).append(span)
    ranks = sorted(by_rank)
    n_rounds = len(by_rank[ranks[0]]) if ranks else 0
    return [[by_rank[rank][i] for rank in ranks if i < len(by_rank[rank])] for i in range(n_rounds)]


def round_table(run: Run) -> list[dict[str, object]]:
    """One row per round of all training ranks."""
    return [_row(run, spans) for spans in joint_rounds(run)]


def _row(run: Run, spans: list[Record]) -> dict[str, object]:
    first = spans[0]
    accepted, best = first.get("accepted", first.get("published")), best_epoch(run, first)
    return {
        "round": first.get("round"),
        "started_s": first["start"] - run.start,
        "wall_s": first["end"] - first["start"],
        "ranks": len(spans),
        "window": _total(spans, "window"),
        "samples": _total(spans, "samples"),
        "epochs": first.get("epochs"),
        "best_epoch": best,
        "early_stopped": stopped_early(run, first, best),
        "loss": first.get("loss"),
        "validation_loss": first.get("validation_loss"),
        "accepted": accepted,
        "version": first.get("version") if first.get("published") else None,
        "stopped": first.get("stopped"),
        "reason": first.get("reason") or first.get("error"),
        "drain_s": max(number(s.get("drain_s")) for s in spans),
        "same_weights": same_weights(spans),
    }


def _total(spans: list[Record], name: str) -> int | None:
    values = column(spans, name)
    return int(values.sum()) if np.isfinite(values).all() else None


def best_epoch(run: Run, span: Record) -> int | None:
    """The epoch, counted from 1, with the lowest validation loss of a round; None if no epoch was finished."""
    losses = column([e for e in run.spans("epoch") if span["start"] <= e["start"] <= span["end"]], "validation_loss")
    return int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else None


def stopped_early(run: Run, span: Record, best: int | None) -> bool | None:
    """Whether a round ended because its validation loss no longer fell; None if the settings do not tell."""
    most, patience = (number(run.setting("training", key)) for key in ("epochs", "patience"))
    epochs = number(span.get("epochs"))
    if best is None or not (most > 0 and patience > 0 and epochs > 0):
        return None
    return bool(epochs < most and epochs - best >= patience)


def same_weights(spans: list[Record]) -> bool | None:
    """Whether the ranks had the same weights after a round; None for one rank."""
    sums = {s.get("weights_crc32") for s in spans}
    return len(sums) == 1 if len(spans) > 1 and None not in sums else None


def doubts(run: Run) -> list[str]:
    """What speaks against the training, in sentences."""
    apart = [spans[0].get("round") for spans in joint_rounds(run) if same_weights(spans) is False]
    return (
        [
            f"The training ranks had different weights after {len(apart)} rounds, first after round {apart[0]}: they "
            "did not train one model."
        ]
        if apart
        else []
    )


def sentence(run: Run) -> str:
    """How many rounds there were, on how many ranks, and what came of them."""
    rounds = joint_rounds(run)
    if not rounds:
        return ""
    n_ranks, way = len(rounds[-1]), WAYS.get(run.result("training", "data_parallel"))
    summed = f", which summed their gradients by {way}" if way else ""
    on = f" on {n_ranks} ranks{summed}" if n_ranks > 1 else ""
    refused = sum(spans[0].get("accepted", spans[0].get("published")) is not True for spans in rounds)
    not_accepted = f"; {refused} of them {'was' if refused == 1 else 'were'} not accepted" if refused else ""
    return f"The model was trained in {len(rounds)} round{'s' if len(rounds) > 1 else ''}{on}{not_accepted}."


def terms(epochs: list[Record]) -> dict[str, np.ndarray]:
    """What the model says of each epoch besides its loss, by name."""
    names = dict.fromkeys(k for e in epochs for k in e if k not in NO_TERMS)
    values = {name: column(epochs, name) for name in names}
    return {name: of_name for name, of_name in values.items() if np.isfinite(of_name).any()}
