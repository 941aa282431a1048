"""The ends of one stream in two processes: what the other end sees when one closes, or dies."""

import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stream_end import payload

from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.errors import StreamError
from ddmd_mpi.streams.addresses import LOOPBACK
from ddmd_mpi.streams.adios2_engine import StepReader, StepWriter, declare, kind_of
from ddmd_mpi.streams.sst_guards import set_own_address
from ddmd_mpi.streams.stream import END

PROGRAM = Path(__file__).with_name("stream_end.py")
pytestmark = pytest.mark.timeout(60)


class OtherEnd:
    """The process at the other end of the stream."""

    def __init__(self, role, engine, path, n, last="end"):
        command = [sys.executable, PROGRAM, role, engine, str(path), str(n), last]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def hears(self, line, meanwhile=lambda: None):
        heard = b""
        while heard.strip() != line.encode():
            meanwhile()
            if select.select([self.process.stdout], [], [], 0.001)[0]:
                heard = self.process.stdout.readline()
                assert heard, "the other end has died"

    def say(self):
        self.process.stdin.write(b"\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(autouse=True)
def _address():
    set_own_address(LOOPBACK)


def declared(engine):
    return declare("test", StreamsSection(engine=engine))


def read_to_end(reader):
    got = []
    while (one := reader.poll()) is not END:
        got.extend([one] if one is not None else [])
        time.sleep(0.0005)
    return got


@pytest.fixture(params=["SST", "BP5"])
def engine(request):
    return request.param


def opened_reader(other, engine, path):
    other.hears("open")
    ends = []
    reader = StepReader(declared(engine), path, at_end=lambda: ends.append(1))
    other.say()
    return reader, ends


def test_payloads_arrive_in_order_and_the_end_is_a_value(tmp_path, engine):
    with OtherEnd("writer", engine, tmp_path / "stream", 20) as other:
        reader, ends = opened_reader(other, engine, tmp_path / "stream")
        other.say()
        got = read_to_end(reader)
        assert len(got) == 20
        assert all(np.array_equal(one, payload(i)) for i, one in enumerate(got))
        assert reader.complete
        assert reader.poll() is END
        assert ends == [1]
        other.say()
        reader.free()
        assert other.process.wait(timeout=20) == 0


def test_a_dead_writer_is_an_end_that_is_not_complete(tmp_path):
    with OtherEnd("writer", "SST", tmp_path / "stream", 3, "die") as other:
        reader, ends = opened_reader(other, "SST", tmp_path / "stream")
        other.hears("written")
        while (first := reader.poll()) is None:
            time.sleep(0.0005)
        assert np.array_equal(first, payload(0))
        other.say()
        other.process.wait(timeout=20)
        read_to_end(reader)
        assert not reader.complete
        assert ends == [1]
        reader.free()


def test_a_reader_that_closes_or_dies_lets_the_writer_end(tmp_path):
    for last in ("close", "die"):
        writer = StepWriter(declared("SST"), tmp_path / last)
        with OtherEnd("reader", "SST", tmp_path / last, 2, last) as other:
            other.hears("open", meanwhile=writer.hello)
            for index in range(6):
                writer.write(payload(index))
            other.hears("read") if last == "close" else other.process.wait(timeout=20)
            writer.write(payload(6))
            writer.close()
            writer.finished = True
            writer.free()  # must not wait for the steps that nobody reads
            assert writer.n_written == 7
            assert writer.nbytes == sum(payload(i).nbytes for i in range(7))


INTERRUPTED = """
import signal, sys
from pathlib import Path
from ddmd_mpi.config.schema import StreamsSection
from ddmd_mpi.streams.adios2_engine import StepWriter, declare

heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append("mine"))
writer = StepWriter(declare("SimulationOutput", StreamsSection()), Path(sys.argv[1]) / "stream")
signal.raise_signal(signal.SIGINT)
print(*heard)
"""


def test_an_open_stream_leaves_ctrl_c_to_the_program(tmp_path):
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, tmp_path], capture_output=True, check=False)
    assert b"mine" in done.stdout, done.stderr


def test_an_unknown_engine_and_a_bad_xml_file_are_named_with_the_cure(tmp_path):
    xml = tmp_path / "adios2.xml"
    for engine in ("HDF5", "Teleporter"):
        io = f"<io name='SimulationOutput'><engine type='{engine}'/></io>"
        xml.write_text(f"<?xml version='1.0'?><adios-config>{io}</adios-config>")
        with pytest.raises(StreamError, match=rf"{engine}.*ddmd-mpi check"):
            StepWriter(declare("SimulationOutput", StreamsSection(adios2_xml=xml)), tmp_path / "stream")
    xml.write_text("<adios-config><io")
    with pytest.raises(StreamError, match=r"adios2\.xml.*parse error"):
        declare("SimulationOutput", StreamsSection(adios2_xml=xml))
    with pytest.raises(StreamError, match=r"nowhere\.xml cannot be read: No such file"):
        declare("SimulationOutput", StreamsSection(adios2_xml=tmp_path / "nowhere.xml"))


def test_the_xml_file_has_the_last_word_where_it_names_the_kind(tmp_path):
    xml = tmp_path / "adios2.xml"
    xml.write_text(
        "<?xml version='1.0'?><adios-config><io name='SimulationOutput'><engine type='BP5'>"
        "<parameter key='StatsLevel' value='1'/></engine></io></adios-config>"
    )
    settings = StreamsSection(adios2_xml=xml, parameters={"DataTransport": "WAN"})
    named, other = declare("SimulationOutput", settings), declare("AggregatorToTraining", settings)
    assert (named.engine, named.io.parameters()["StatsLevel"]) == ("BP5", "1")
    assert "DataTransport" not in named.io.parameters()
    assert (other.engine, other.io.parameters()["DataTransport"]) == ("SST", "WAN")
    assert other.io.parameters()["RendezvousReaderCount"] == "0"


def test_the_kind_is_the_name_before_the_dash():
    assert kind_of("SimulationOutput-12") == kind_of("SimulationOutput") == "SimulationOutput"
