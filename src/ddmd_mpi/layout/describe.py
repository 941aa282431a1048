"""What a layout means for the machine, in words: the text of ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .links import STREAM_KINDS, TO_TRAINING, links
from .roles import ROLES, Layout
from .scaling import Prediction, predict, remarks

#: Where the streams of each kind lead.
_TO = dict(zip(STREAM_KINDS, ("to aggregation", "to training", "to inference", "of weights to inference"), strict=True))
_MAX_RANGES = 8


def describe(
    layout: Layout,
    *,
    ring_nbytes: int,
    queue_nbytes: int,
    windows: dict[str, int] | None = None,
    n_threads: int = 1,
    cores_per_node: int | None = None,
    block_delay: float = 1.0,
) -> str:
    """The roles, nodes, GPUs and memory of a layout, and every warning.

    Parameters
    ----------
    ring_nbytes
        Budget of one aggregator's coordinate ring.
    queue_nbytes
        Limit of one stream's queue; it is the writer's memory.
    windows
        Bytes of a full window of training and of inference, by role; none where there are no windows.
    n_threads
        Threads of one rank.
    cores_per_node
        Cores of a node, where it is known.
    block_delay
        Seconds between two blocks of an aggregator.
    """
    n_nodes = len(layout.gpus_per_node)
    per_node = Counter(layout.nodes)
    lines = [
        f"{len(layout.roles)} ranks on {n_nodes} node{'s' if n_nodes > 1 else ''}, {_span(per_node.values())} per node",
        *(_role_line(layout, role) for role in ROLES),
        f"walkers: {layout.n_walkers}, {_shares(layout)} per simulation rank",
        _gpu_line(layout),
        *_stream_lines(layout),
        *(
            f"memory of a rank of {role}: {text}"
            for role, text in _memory(layout, ring_nbytes, queue_nbytes, windows or {})
        ),
    ]
    warnings = [*layout.warnings, *_core_warnings(per_node, n_threads, cores_per_node)]
    if not layout.staged:
        shared = max(per_node.values()) / (cores_per_node or max(per_node.values()))
        predicted = predict(layout, ranks_per_core=max(1.0, shared), block_delay=block_delay)
        lines += _scale_lines(predicted)
        warnings += remarks(layout, predicted)
    return "\n".join(lines + [f"warning: {w}" for w in warnings])


def ranges(ranks: Sequence[int]) -> str:
    """Ascending ranks as text, such as ``0-3, 8``."""
    starts = [i for i, rank in enumerate(ranks) if not i or rank != ranks[i - 1] + 1]
    spans = [(ranks[a], ranks[b - 1]) for a, b in zip(starts, [*starts[1:], len(ranks)], strict=True)]
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in spans[:_MAX_RANGES]]
    more = [f"... {ranks[-1]}"] if len(spans) > _MAX_RANGES else []
    return ", ".join(shown + more)


def _shares(layout: Layout) -> str:
    shares = sorted({len(layout.walkers(rank)) for rank in layout.ranks("simulation")})
    return " or ".join(map(str, shares))


def _role_line(layout: Layout, role: str) -> str:
    ranks = layout.ranks(role)
    on_nodes = Counter(layout.nodes[r] for r in ranks)
    with_gpu = sum(layout.gpu[r] is not None for r in ranks)
    gpu = f", {with_gpu} with a GPU" if any(layout.gpus_per_node) else ""
    return (
        f"{role:<12} {len(ranks):>6} rank{'s' if len(ranks) > 1 else ' '}: {ranges(ranks)}  "
        f"({_span(on_nodes.values())} on {len(on_nodes)} node{'s' if len(on_nodes) > 1 else ''}{gpu})"
    )


def _gpu_line(layout: Layout) -> str:
    used = len({(node, gpu) for node, gpu in zip(layout.nodes, layout.gpu, strict=True) if gpu is not None})
    return f"GPUs: {used} of {sum(layout.gpus_per_node)} used"


def _stream_lines(layout: Layout) -> Iterable[str]:
    """How many streams there are, and how several training ranks share the frames; file mode has none."""
    if layout.staged:
        return
    planned = links(layout)
    counts = Counter(link.kind for link in planned)
    yield "streams: " + ", ".join(f"{counts[kind]} {to}" for kind, to in _TO.items())
    shares = [link for link in planned if link.kind == TO_TRAINING]
    read, written = Counter(link.reader for link in shares), Counter(link.writer for link in shares)
    if max(written.values()) > 1:
        yield f"training: an aggregator deals its blocks to {_span(written.values())} ranks in turn"
    elif len(read) > 1:
        yield f"training: a rank takes the frames of {_count(_span(read.values()), 'aggregator')}"


def _scale_lines(predicted: Prediction) -> Iterable[str]:
    """What docs/scaling.md predicts."""
    yield f"start: about {predicted.start_s:.0f} s from the launch to the first report, without preparing the molecule"
    yield f"control plane: about {predicted.messages_to_leader:.0f} messages a second to the first aggregator"
    yield (
        f"inference: {_count(str(predicted.inference_streams), 'stream')} to read, up to "
        f"{100 * predicted.inference_load:.0f} % of a core"
    )


def _memory(layout: Layout, ring_nbytes: int, queue_nbytes: int, windows: dict[str, int]) -> Iterable[tuple[str, str]]:
    """What a rank of each role needs at most, besides its libraries and its model."""
    written = Counter(link.writer for link in links(layout))
    for role in () if layout.staged else ROLES:
        ring = ring_nbytes if role == "aggregation" else 0
        queues = max(written[rank] for rank in layout.ranks(role)) * queue_nbytes
        parts = {"ring": ring, "window up to": windows.get(role, 0), "stream queues up to": queues}
        if any(parts.values()):
            yield role, ", ".join(f"{what} {nbytes / 1e6:.1f} MB" for what, nbytes in parts.items() if nbytes)


def _core_warnings(per_node: Counter[int], n_threads: int, cores_per_node: int | None) -> Iterable[str]:
    if cores_per_node is None:
        return
    most, least = max(per_node.values()) * n_threads, min(per_node.values()) * n_threads
    if most > cores_per_node:
        yield f"up to {most} threads would share the {cores_per_node} cores of a node"
    if least < cores_per_node:
        yield f"up to {cores_per_node - least} of the {cores_per_node} cores of a node would be idle"


def _span(counts: Iterable[int]) -> str:
    low, high = min(counts := list(counts)), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _count(text: str, noun: str) -> str:
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
