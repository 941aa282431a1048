"""Plays NAMD in tests: reads its configuration and restart files, moves the atoms by OpenMM, and serves IMDv3.

It speaks the protocol, reads and writes the formats by code of its own, so that it shows what a program would see.
"""

import socket
import struct
import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

VELOCITY_UNIT = 20.45482706
COLUMNS = "TS BOND ANGLE DIHED IMPRP ELECT VDW BOUNDARY MISC KINETIC TOTAL TEMP POTENTIAL TOTAL3 TEMPAVG".split()  # noqa: SIM905


def installed(directory):
    """A program namd3 in a directory, which is this module."""
    path = directory / "namd3"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    path.chmod(0o755)
    return path


def main():
    say("Info: NAMD 3.0.2 for Linux-x86_64-multicore")
    names = [argument for argument in sys.argv[1:] if not argument.startswith("+")]
    if not names:
        say("FATAL ERROR: No simulation config file specified on command line.")
        return 1
    # Its name in the table of processes.
    with open("/proc/self/comm", "w") as file:
        file.write("namd3")
    entries = read(names[0])
    (threads,) = (argument[2:] for argument in sys.argv if argument.startswith("+p"))
    simulation, box = prepared(entries, threads)
    if "minimize" in entries:
        simulation.minimizeEnergy(maxIterations=int(entries["minimize"]))
    else:
        serve(simulation, entries, box)
    end(simulation, entries["outputname"], box)
    return 0


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def read(path):
    """Entries by key; those of parameters, which may come again, together."""
    with open(path) as file:
        lines = [line.strip().split(maxsplit=1) for line in file if line[0] not in "#\n"]
    parameters = [value for key, value in lines if key == "parameters"]
    return {key.lower(): value for key, value in lines} | {"parameters": parameters}


def prepared(entries, threads):
    """What it reads of a topology, as NAMD is told whose files they are."""
    options = {"implicitSolvent": app.OBC2} if entries.get("gbis") == "on" else {}
    if entries.get("amber") == "yes":
        found = app.AmberPrmtopFile(entries["parmfile"])
        options |= {"gbsaModel": None} if options else {}
    else:
        assert entries["paratypecharmm"] == "on"
        found = app.CharmmPsfFile(entries["structure"])
        options["params"] = app.CharmmParameterSet(*entries["parameters"], permissive=True)
    box = np.zeros((3, 3))
    if "extendedsystem" in entries:
        with open(entries["extendedsystem"]) as file:
            box = np.array(file.read().splitlines()[-1].split()[1:10], float).reshape(3, 3) / 10
        found.topology.setPeriodicBoxVectors(box * unit.nanometer)
        found.box_vectors = box * unit.nanometer
    assert app.PDBFile(entries["coordinates"]).topology.getNumAtoms() == found.topology.getNumAtoms()
    method = app.PME if entries.get("pme") == "yes" else app.NoCutoff
    constraints = app.HBonds if entries.get("rigidbonds") == "all" else None
    cutoff = float(entries["cutoff"]) * unit.angstrom
    system = found.createSystem(nonbondedMethod=method, nonbondedCutoff=cutoff, constraints=constraints, **options)
    integrator = openmm.LangevinMiddleIntegrator(
        float(entries.get("langevintemp", 0)),
        float(entries.get("langevindamping", 0)),
        float(entries.get("timestep", 1)) / 1000,
    )
    integrator.setRandomNumberSeed(int(entries.get("seed", 1)) % 2**31)
    platform = openmm.Platform.getPlatformByName("CPU")
    simulation = app.Simulation(found.topology, system, integrator, platform, {"Threads": threads})
    if box.any():
        simulation.context.setPeriodicBoxVectors(*box)
    simulation.context.setPositions(binary(entries["bincoordinates"]) / 10)
    if "binvelocities" in entries:
        simulation.context.setVelocities(binary(entries["binvelocities"]) * VELOCITY_UNIT / 10)
    return simulation, box


def binary(path):
    with open(path, "rb") as file:
        (n_atoms,) = struct.unpack("=i", file.read(4))
        return np.frombuffer(file.read(), np.float64).reshape(n_atoms, 3)


def serve(simulation, entries, box):
    with socket.create_server(("127.0.0.1", int(entries["imdport"]))) as listener:
        connection, _ = listener.accept()
    with connection:
        sent = [entries[f"imdsend{what}"] == "yes" for what in ("time", "energies", "boxdimensions", "positions")]
        sent += [entries["imdwrappositions"] == "yes"]
        sent += [entries[f"imdsend{what}"] == "yes" for what in ("velocities", "forces")]
        assert (sent, entries["imdversion"], entries["imdwait"]) == (
            [True, False, True, True, False, True, False],
            "3",
            "yes",
        )
        connection.sendall(struct.pack("!i", 4) + struct.pack("=i", 3) + struct.pack("!ii", 10, 7) + bytes(sent))
        assert connection.recv(8, socket.MSG_WAITALL) == struct.pack("!ii", 3, 0)
        say("ETITLE:", *COLUMNS)
        every = int(entries["imdfreq"])
        for step in range(0, int(entries["run"]) + 1, every):
            if step:
                simulation.step(every)
            state = simulation.context.getState(getPositions=True, getVelocities=True, getEnergy=True)
            x = (10 * state.getPositions(asNumpy=True)._value).astype("=f4")
            v = (10 * state.getVelocities(asNumpy=True)._value).astype("=f4")
            dt = float(entries["timestep"]) / 1000
            connection.sendall(
                struct.pack("!ii", 12, 1) + struct.pack("=ddq", dt, step * dt, step)
                + struct.pack("!ii", 13, 1) + (10 * box).astype("=f4").tobytes()
                + struct.pack("!ii", 2, len(x)) + x.tobytes()
                + struct.pack("!ii", 14, len(v)) + v.tobytes()
            )  # fmt: skip
            energies = dict.fromkeys(COLUMNS, 0.0)
            energies["POTENTIAL"] = state.getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole)
            say("ENERGY:", step, *(f"{energies[name]:.4f}" for name in COLUMNS[1:]))


def end(simulation, name, box):
    state = simulation.context.getState(getPositions=True, getVelocities=True)
    for suffix, values in (
        ("coor", 10 * state.getPositions(asNumpy=True)._value),
        ("vel", 10 * state.getVelocities(asNumpy=True)._value / VELOCITY_UNIT),
    ):
        with open(f"{name}.{suffix}", "wb") as file:
            file.write(struct.pack("=i", len(values)) + values.astype(np.float64).tobytes())
    with open(f"{name}.xsc", "w") as file:
        file.write("# NAMD extended system configuration output file\n#$LABELS step a_x a_y a_z\n")
        file.write(" ".join(map(str, [0, *(10 * box).ravel(), 0, 0, 0])) + "\n")


if __name__ == "__main__":
    sys.exit(main())
