import csv

import numpy as np
import pytest
from synthetic_run import SyntheticRun, write_lines

from ddmd_mpi.analysis import open_run
from ddmd_mpi.analysis.records import read_lines
from ddmd_mpi.report.tables import role_table
from ddmd_mpi.report.training import doubts, joint_rounds, round_table, sentence, terms
from ddmd_mpi.report.write import write_report

N_ROUNDS = 4  # of training: one in three rounds of inference


@pytest.fixture
def together(tmp_path):
    """A run on three training ranks."""
    return SyntheticRun(n_rounds=3 * N_ROUNDS, n_training=3).write(tmp_path / "run")


def change(directory, rank, edit):
    """Edit the rounds of a training rank, and its other events, too."""
    path = directory / "events" / f"training-{rank:04d}.jsonl"
    events = read_lines([path])
    edit([e for e in events if e["name"] == "train_round"], events)
    write_lines(path, events)


def test_a_round_of_several_ranks_is_one(together):
    rounds = joint_rounds(open_run(together))
    assert [[span["rank"] for span in spans] for spans in rounds] == [[2, 4, 5]] * N_ROUNDS
    rows = round_table(open_run(together))
    assert [r["round"] for r in rows] == [r["version"] for r in rows] == [1, 2, 3, 4]
    assert rows[1]["samples"] == 3 * 40 * 6
    assert (rows[0]["window"], rows[0]["ranks"], rows[0]["drain_s"]) == (50 + 51 + 52, 3, 0.2)
    assert all(r["same_weights"] and r["accepted"] for r in rows)


def test_roles_count_the_rounds_of_several_ranks_once(together):
    (together / "summary.json").unlink()
    role = next(r for r in role_table(open_run(together)) if r["role"] == "training")
    assert (role["ranks"], role["iterations"]) == (3, N_ROUNDS)
    assert role["mean_s"] == pytest.approx(10.5)


def test_the_report_says_who_trained_and_holds_the_rounds(together):
    write_report(together)
    page = (together / "report.html").read_text()
    assert "The model was trained in 4 rounds on 3 ranks, which summed their gradients by Horovod." in page
    with open(together / "tables" / "training.csv") as file:
        assert len(list(csv.DictReader(file))) == N_ROUNDS


def test_one_rank_has_no_other_to_differ_from(steered):
    run = open_run(steered)
    assert {r["same_weights"] for r in round_table(run)} == {None}
    assert sentence(run) == "The model was trained in 8 rounds."
    assert doubts(run) == []


def test_weights_that_differ_are_a_doubt(together):
    change(together, 4, lambda rounds, _: rounds[2].update(weights_crc32=7))
    assert [r["same_weights"] for r in round_table(open_run(together))] == [True, True, False, True]
    (doubt,) = doubts(open_run(together))
    assert "first after round 3" in doubt
    write_report(together)
    assert "first after round 3" in (together / "report.html").read_text()


def test_a_round_that_was_refused_says_why_and_has_no_version(together):
    why = {"accepted": False, "published": False, "reason": "the loss is not finite"}
    change(together, 2, lambda rounds, _: rounds[1].update(why))
    rows = round_table(open_run(together))
    assert (rows[1]["accepted"], rows[1]["version"], rows[1]["reason"]) == (False, None, "the loss is not finite")
    assert "1 of them was not accepted" in sentence(open_run(together))


@pytest.mark.parametrize(("losses", "n_epochs", "best", "early"), [
    ([5, 4, 3, 4, 5, 6, 7, 8], 8, 3, False),  # all epochs that were wanted
    ([5, 1, 3, 4, 5, 6, 7], 7, 2, True),
    ([5, 4, 3], 3, 3, False),  # ended by the run
    ([], 0, None, None),
])  # fmt: skip
def test_early_stopping_is_told_from_the_epochs(together, losses, n_epochs, best, early):
    """Eight epochs at most, with a patience of five."""

    def edit(rounds, events):
        epochs = [e for e in events if e["name"] == "epoch" and e["round"] == 1]
        for epoch in epochs[len(losses) :]:
            events.remove(epoch)
        for epoch, loss in zip(epochs, losses, strict=False):
            epoch["validation_loss"] = loss
        rounds[0]["epochs"] = n_epochs

    change(together, 2, edit)
    row = round_table(open_run(together))[0]
    assert (row["epochs"], row["best_epoch"], row["early_stopped"]) == (n_epochs, best, early)


def test_a_rank_whose_last_lines_are_lost_spoils_nothing(together):
    path = together / "events" / "training-0005.jsonl"
    path.write_text(path.read_text()[:-30])
    rows = round_table(open_run(together))
    assert [r["ranks"] for r in rows] == [3, 3, 3, 2]
    (together / "events" / "training-0005.jsonl").unlink()
    assert len(round_table(open_run(together))) == N_ROUNDS


def test_terms_are_what_the_model_calls_them(together):
    def rename(_, events):
        for event in events:
            if event["name"] == "epoch":
                event["critic"] = -event.pop("divergence")

    assert list(terms(open_run(together).spans("epoch"))) == ["reconstruction", "divergence"]
    change(together, 2, rename)
    found = terms(open_run(together).spans("epoch"))
    assert list(found) == ["reconstruction", "critic"]
    assert np.nanmax(found["critic"]) < 0
    assert write_report(together)
