"""Who may import what: the rooms are strangers, and each foreign library lives in one room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ddmd_mpi

SOURCE = Path(ddmd_mpi.__file__).parent
ROOMS = {"structure", "steering", "parallel", "streams", "md", "model", "roles", "report"}
FOREIGN = {
    "mpi4py": {"parallel"}, "adios2": {"streams"}, "h5py": {"streams", "model"}, "openmm": {"md"}, "pdbfixer": {"md"},
    "tensorflow": {"model"}, "keras": {"model"}, "horovod": {"model"}, "torch": {"model"},
    "sklearn": {"steering", "model"}, "cuml": {"steering"}, "matplotlib": {"report"}, "click": {"__main__"},
    "pydantic": {"bounds", "config", "sections"}, "mdtraj": {"analysis"},
}
#: structure/ is arithmetic on arrays that any room below the roles may use; roles compose the rooms.
MAY_USE = {"md": {"structure"}, "model": {"structure"}, "roles": ROOMS - {"report", "roles"}}
PROGRAM = {"__main__", "run", "preparing", "leaving", "check", "initialise", "newsystem", "analysis"}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path):
    """(top-level package or room, whether it is ours) of every import in a module, at any depth of its code."""
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


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    room = room_of(path)
    for name, ours in imported(path):
        if not ours:
            assert room in FOREIGN.get(name, {room}), f"{path}: {name} belongs to {FOREIGN[name]}"
        elif name in ROOMS and name != room and room not in PROGRAM:
            assert name in MAY_USE.get(room, set()), f"{path}: room {room} imports room {name}"


def test_the_walk_sees_imports():
    """The walk itself finds what is known to be there, so that the test above can fail."""
    assert ("mpi4py", False) in set(imported(SOURCE / "parallel" / "launch.py"))
    assert ("steering", True) in set(imported(SOURCE / "roles" / "decider.py"))


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("ddmd_mpi.roles.simulation", ("tensorflow", "keras", "sklearn", "matplotlib", "torch")),
        ("ddmd_mpi.roles.aggregation", ("tensorflow", "keras", "sklearn", "openmm", "matplotlib")),
        ("ddmd_mpi.roles.inference", ("tensorflow", "openmm", "matplotlib")),
        ("ddmd_mpi.roles.training", ("tensorflow", "openmm", "sklearn", "matplotlib")),
        ("ddmd_mpi.roles.iteration", ("tensorflow", "keras", "sklearn", "matplotlib", "torch")),
        ("ddmd_mpi.__main__", ("mpi4py", "adios2", "openmm", "tensorflow", "sklearn", "matplotlib")),
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
LOAD = {"torch.load", "np.load", "numpy.load", "models.load_model", "saving.load_model", "read_pickle", "fromstring",
        "safe_eval", "load_variable", "jit.load"}
#: OpenMM's readers that execute what a file says, and the one module that looks at the file first.
OF_OPENMM = {"app.ForceField": "md/foreign.py", "ForceField": "md/foreign.py",
             "XmlSerializer.deserialize": "md/molecules.py"}


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
