"""Who may import what: imports between packages point one way, and each foreign library lives in one package."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import ddmd_mpi

SOURCE = Path(ddmd_mpi.__file__).parent
#: Every package and loose module, upper ones first, and what it may use besides what all may; see architecture.md.
BELOW_ALL = {"errors"}
MOST_LINES = 350
MAY_USE = {
    "__main__": {"cli"},
    "cli": {
        "study",
        "run",
        "prepare",
        "report",
        "analysis",
        "streams",
        "parallel",
        "md",
        "model",
        "monitor",
        "structure",
        "layout",
        "frames",
        "config",
        "rundir",
        "environ",
    },
    "study": {"prepare", "report", "analysis", "steering", "structure", "faults", "layout", "config", "rundir"},
    "run": {
        "shutdown",
        "connect",
        "prepare",
        "roles",
        "parallel",
        "faults",
        "monitor",
        "config",
        "rundir",
        "environ",
        "clock",
    },
    "shutdown": {"connect", "roles", "parallel", "faults", "layout", "rundir", "clock"},
    "connect": {"prepare", "roles", "streams", "parallel", "faults", "monitor", "layout", "config", "rundir"},
    "prepare": {"resume", "roles", "md", "steering", "faults", "monitor", "layout", "config", "rundir"},
    "resume": {"faults", "monitor", "config", "rundir"},
    "file_mode": {"roles", "md", "model", "parallel", "faults", "monitor", "layout", "frames", "rundir"},
    "roles": {
        "md",
        "model",
        "streams",
        "parallel",
        "steering",
        "faults",
        "monitor",
        "layout",
        "frames",
        "config",
        "rundir",
        "clock",
    },
    "report": {"analysis", "layout"},
    "analysis": {"streams", "model", "md", "structure", "frames", "rundir"},
    "md": {"structure", "config", "rundir"},
    "model": {"structure", "monitor", "frames", "config", "rundir", "environ"},
    "streams": {"layout", "frames", "config", "rundir", "clock", "environ"},
    "parallel": {"faults", "layout", "frames", "clock"},
    "steering": {"frames", "config"},
    "faults": {"monitor", "layout", "config", "clock"},
    "monitor": {"layout", "rundir", "clock"},
    "structure": {"config"},
    "frames": {"config"},
    "layout": {"config"},
    "config": {"rundir"},
    "rundir": set(),
    "environ": set(),
    "clock": set(),
    "errors": set(),
}
#: The room that each foreign library lives in.
FOREIGN = {
    "mpi4py": {"parallel"},
    "adios2": {"streams"},
    "h5py": {"file_mode"},
    "openmm": {"md"},
    "pdbfixer": {"md"},
    "tensorflow": {"model"},
    "keras": {"model"},
    "horovod": {"model"},
    "torch": {"model"},
    "sklearn": {"model", "report"},
    "umap": {"report"},
    "cuml": {"steering"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "rdkit": {"report"},
    "click": {"cli"},
    "textual": {"cli"},
    "pydantic": {"config"},
    "mdtraj": {"analysis"},
    "MDAnalysis": {"analysis"},
    "pandas": {"analysis"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@functools.cache
def imported(path):
    """(top-level package or room, whether it is ours) of every import in a module, at any depth of its code."""
    return frozenset(_imported(path))


def _imported(path):
    package = ("ddmd_mpi", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from named(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            if module == ["ddmd_mpi"]:
                for alias in node.names:
                    yield from named([*module, alias.name])
            else:
                yield from named(module)


def named(parts):
    if parts[0] != "ddmd_mpi":
        yield parts[0], False
    elif len(parts) > 1:
        yield parts[1], True


def used() -> dict[str, set[str]]:
    """What each room imports of the others."""
    found = {room: set() for room in MAY_USE}
    for path in MODULES:
        room = room_of(path)
        if room != "__init__":
            found[room] |= {name for name, ours in imported(path) if ours} - {room, "__version__"}
    return found


def test_every_room_is_named():
    assert {room_of(path) for path in MODULES} - {"__init__"} == MAY_USE.keys()


@pytest.mark.parametrize("room", MAY_USE)
def test_a_room_uses_what_it_may(room):
    """No more than that, and no permission is stale."""
    assert used()[room] - BELOW_ALL == MAY_USE[room]


def test_a_module_fits_into_a_head():
    assert {path.name for path in MODULES if len(path.read_text().splitlines()) > MOST_LINES} == set()


def test_arrows_point_downwards():
    """So that there is no circle."""
    order = [*MAY_USE]
    for room, others in MAY_USE.items():
        assert all(order.index(other) > order.index(room) for other in others), room


@pytest.mark.parametrize("library", FOREIGN)
def test_a_foreign_library_lives_in_one_room(library):
    rooms = {room_of(path) for path in MODULES if (library, False) in imported(path)}
    assert rooms == FOREIGN[library]


def test_the_walk_sees_imports():
    """The walk itself finds what is known to be there, so that the tests above can fail."""
    assert ("mpi4py", False) in imported(SOURCE / "parallel" / "windows.py")
    assert ("steering", True) in imported(SOURCE / "roles" / "selector.py")


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("ddmd_mpi.roles.simulation", ("pydantic", "tensorflow", "keras", "sklearn", "matplotlib", "jinja2", "torch")),
        ("ddmd_mpi.md.openmm_engine", ("scipy", "pdbfixer")),  # half a second of CPU time of every rank that simulates
        (
            "ddmd_mpi.roles.aggregation",
            ("pydantic", "tensorflow", "keras", "sklearn", "openmm", "matplotlib", "jinja2"),
        ),
        ("ddmd_mpi.roles.inference", ("pydantic", "tensorflow", "openmm", "matplotlib", "jinja2")),
        ("ddmd_mpi.roles.training", ("pydantic", "tensorflow", "openmm", "sklearn", "matplotlib", "jinja2")),
        ("ddmd_mpi.run", ("pydantic",)),  # a tenth of a second of CPU time of every rank
        ("ddmd_mpi.file_mode.loop", ("tensorflow", "keras", "sklearn", "matplotlib", "jinja2", "torch")),
        ("ddmd_mpi.analysis", ("matplotlib", "jinja2")),
        ("ddmd_mpi.cli.entry", ("mpi4py", "adios2", "openmm", "tensorflow", "sklearn", "matplotlib", "jinja2")),
    ],
)
def test_a_role_loads_only_its_own_libraries(module, forbidden):
    """TensorFlow is loaded when a model is made, not when its role is imported."""
    code = f"import sys, {module}; print([m for m in {forbidden!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


#: Modules that make objects, and with them calls, of data; and what executes it.
OF_DATA = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
EXECUTE = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
#: What reads weights or arrays and can unpickle; npz.py reads arrays.
LOAD = {
    "torch.load",
    "np.load",
    "numpy.load",
    "models.load_model",
    "saving.load_model",
    "read_pickle",
    "fromstring",
    "safe_eval",
    "load_variable",
    "jit.load",
}
#: OpenMM's readers that execute what a file says, and the one module that looks at the file first.
OF_OPENMM = {
    "app.ForceField": "md/trusted_files.py",
    "ForceField": "md/trusted_files.py",
    "XmlSerializer.deserialize": "md/molecule_files.py",
}


def dotted(node):
    """``a.b.c`` of an expression, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def executing(source, where=""):
    """What in a source could execute data: imports, calls, and arguments that allow it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in OF_DATA)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in OF_DATA:
            yield node.module
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            tails = {name, ".".join(name.split(".")[-2:]), name.split(".")[-1] if name.count(".") else name}
            yield from tails & LOAD
            yield from {name} & EXECUTE
            yield from (t for t in tails & OF_OPENMM.keys() if OF_OPENMM[t] != where)
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and getattr(keyword.value, "value", True) is not False:
                    yield "allow_pickle"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_module_executes_data(path):
    assert list(executing(path.read_text(), path.relative_to(SOURCE).as_posix())) == []


@pytest.mark.parametrize("source", [
    "import pickle", "from pickle import loads", "def f():\n    import yaml", "eval(x)", "exec(x, {})", "np.load(f)",
    "read(f, allow_pickle=True)", "read(f, allow_pickle=flag)", "torch.load(f)", "keras.models.load_model(f)",
    "app.ForceField(*names)", "openmm.XmlSerializer.deserialize(text)", "os.system(x)", "compile(x, '', 'exec')",
])  # fmt: skip
def test_the_walk_sees_what_executes(source):
    assert list(executing(source))


def test_the_walk_lets_the_rest_be():
    assert not list(executing("re.compile(x)\nmodel.eval()\nread(f, allow_pickle=False)\nstate.load(f)"))
