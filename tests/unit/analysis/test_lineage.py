import pytest
from synthetic_run import write_lines

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.lineage import Source, ancestry, founders
from ddmd_mpi.analysis.records import read_lines


def change(path, edit):
    lines = read_lines([path])
    edit(lines)
    write_lines(path, lines)


def test_every_restarted_segment_has_the_source_of_its_decision(steered):
    applied = {d["decision"]: d for d in read_lines([steered / "decisions.jsonl"]) if d["outcome"] == "applied"}
    restarted = {s.decision: s for s in open_run(steered).segments if s.restarted}
    assert restarted.keys() == applied.keys()
    for identity, segment in restarted.items():
        source = applied[identity]["source"]
        assert segment.parent == Source(source["walker"], source["segment"], source["frame"])
        assert segment.segment == applied[identity]["segment"]


def test_a_segment_that_goes_on_comes_from_the_last_frame_before_it(steered):
    segments = open_run(steered).segments
    own = [s for s in segments if s.segment > 0 and not s.restarted]
    assert own
    for s in own:
        assert s.parent == Source(s.walker, s.segment - 1, s.first_frame - 1)


def test_the_first_segments_come_from_the_start_structure(steered):
    assert [s.parent for s in open_run(steered).segments if s.segment == 0] == [None] * 4


def test_segments_cover_every_frame(steered):
    for walker in range(4):
        own = [s for s in open_run(steered).segments if s.walker == walker]
        n_frames = len((steered / "trajectories" / f"sim-{walker:04d}.frames.csv").read_text().splitlines()) - 1
        assert sum(s.n_frames for s in own) == n_frames
        assert [s.time_ps for s in own] == sorted(s.time_ps for s in own)


def test_the_parent_is_found_in_the_decisions_alone(fresh):
    before = open_run(fresh).segments
    for path in fresh.glob("trajectories/*.segments.jsonl"):
        change(path, lambda lines: [line.pop(k) for line in lines for k in list(line) if k.startswith("source_")])
    assert open_run(fresh).segments == before


def test_a_sound_run_does_not_contradict_itself(steered):
    assert open_run(steered).contradictions() == []


def test_a_source_frame_that_its_segment_does_not_hold_is_found(fresh):
    change(fresh / "trajectories" / "sim-0000.segments.jsonl", lambda lines: lines[-1].update(source_frame=10_000))
    found = open_run(fresh).contradictions()
    assert any("does not hold" in sentence for sentence in found)


def test_a_segment_that_descends_from_itself_is_found_whatever_the_clocks_say(fresh):
    for path in fresh.glob("trajectories/*.segments.jsonl"):
        change(path, lambda lines: [line.update(start=-line["start"]) for line in lines])
    assert open_run(fresh).contradictions() == []
    child = next(s for s in open_run(fresh).segments if s.parent and s.parent.walker != s.walker)
    parent = next(s for s in open_run(fresh).segments if (s.walker, s.segment) == child.parent[:2])
    path = fresh / "trajectories" / f"sim-{parent.walker:04d}.segments.jsonl"
    change(
        path,
        lambda lines: lines[parent.segment].update(
            decision=-1,
            source_walker=child.walker,
            source_segment=child.segment,
            source_frame=child.first_frame,
        ),
    )
    assert any("is its own ancestor" in sentence for sentence in open_run(fresh).contradictions())


def test_an_applied_decision_without_a_segment_is_found(fresh):
    change(fresh / "decisions.jsonl", lambda lines: lines[0].update(decision=99))
    found = open_run(fresh).contradictions()
    assert any("decision 99 was applied, but no segment names it" in sentence for sentence in found)


def test_a_decision_for_another_walker_is_found(fresh):
    def edit(lines):
        applied = next(d for d in lines if d["outcome"] == "applied")
        applied["walker"] = (applied["walker"] + 1) % 4

    change(fresh / "decisions.jsonl", edit)
    assert any("which started segment" in sentence for sentence in open_run(fresh).contradictions())


def test_only_the_newest_decision_of_a_walker_may_be_unwritten(fresh):
    newest = {s.walker: s.decision for s in open_run(fresh).segments if s.restarted}
    older = [s.decision for s in open_run(fresh).segments if s.restarted and s.decision != newest[s.walker]]
    lines = read_lines([fresh / "decisions.jsonl"])
    write_lines(fresh / "decisions.jsonl", [d for d in lines if d["decision"] not in newest.values()])
    assert open_run(fresh).contradictions() == []
    write_lines(fresh / "decisions.jsonl", [d for d in lines if d["decision"] != older[0]])
    assert any(f"names decision {older[0]}, which decisions.jsonl lacks" in s for s in open_run(fresh).contradictions())


@pytest.mark.parametrize("walker", range(4))
def test_ancestry_leads_from_the_start_to_the_frame(steered, walker):
    segments = open_run(steered).segments
    last = [s for s in segments if s.walker == walker][-1]
    way = ancestry(segments, walker, last.first_frame)
    starts = {(s.walker, s.segment): s.start for s in segments}
    assert way[-1] == Source(walker, last.segment, last.first_frame)
    assert way[0].segment == 0
    times = [starts[(s.walker, s.segment)] for s in way]
    assert times == sorted(times)


def test_founders_are_the_walkers_whose_starts_the_segments_come_from(steered):
    run = open_run(steered)
    found = founders(run.segments)
    assert found.keys() == {(s.walker, s.segment) for s in run.segments}
    for s in run.segments:
        first = run.ancestry(s.walker, s.first_frame)[0]
        assert found[s.walker, s.segment] == first.walker
    assert any(founder != walker for (walker, _), founder in found.items())
