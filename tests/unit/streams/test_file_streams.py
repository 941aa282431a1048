"""Streams that are files: their description of the variables is complete before a reader comes."""

import numpy as np

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.adios2_engine import StepReader, StepWriter, declare
from ddmd_mpi.streams.stream import END


def test_the_description_of_variables_does_not_grow_under_a_reader(tmp_path):
    settings = StreamsSection(engine="BP5")
    writer = StepWriter(declare("SimulationOutput", settings), tmp_path / "s.bp")
    description = tmp_path / "s.bp" / "mmd.0"
    size = description.stat().st_size
    assert size > 0
    reader = StepReader(declare("SimulationOutput", settings), tmp_path / "s.bp")
    assert reader.poll() is None
    for n in (1, 7, 5000):
        writer.write(np.arange(n).astype(np.uint8))
        payload = reader.poll()
        assert payload is not None
        np.testing.assert_array_equal(payload, np.arange(n).astype(np.uint8))
    writer.close()
    assert reader.poll() is END
    assert reader.complete
    assert description.stat().st_size == size
    writer.finished = True
    writer.free()
    reader.free()
