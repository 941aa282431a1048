"""A systems table of toy ligands, as files: what :mod:`toy_ligands` makes, and the settings for it."""

import openmm
from openmm import app, unit
from toy_ligands import CONTACT_CUTOFF, toy_complex

SETTINGS = f"""
[run]
duration = "3min"
[simulation]
timestep_fs = 20.0
friction_per_ps = 0.5
report_interval_ps = 4.0
segment_ps = 40.0
minimize = false
[features]
cutoff_angstrom = 8.0
ligand_cutoff_angstrom = {10 * CONTACT_CUTOFF}
[training]
model = "pca"
[steering]
strategy = "ml_contacts"
walkers_per_ligand_max = 6
[file]
newest_iterations = 2
[aggregation]
ring_mb = 8.0
"""


def write_complex(directory, name, strength, n_beads):
    """Write NAME.xml and NAME.pdb; returns the row of the table."""
    found = toy_complex(strength, n_beads)
    (directory / f"{name}.xml").write_text(openmm.XmlSerializer.serialize(found.system))
    with (directory / f"{name}.pdb").open("w") as file:
        app.PDBFile.writeFile(found.topology, found.positions_nm * unit.nanometer, file, keepIds=True)
    return f'[[system.complexes]]\nname = "{name}"\ncoordinates = "{name}.pdb"\ntopology = "{name}.xml"\n'


def write_table(directory, strengths):
    """Write a config of one ligand per strength, each of another number of beads; returns its path."""
    rows = [write_complex(directory, f"ligand-{i}", s, 1 + i) for i, s in enumerate(strengths)]
    path = directory / "toy.toml"
    path.write_text(SETTINGS + "\n".join(rows))
    return path
