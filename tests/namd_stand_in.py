"""Plays NAMD in tests: reads its configuration and restart files, moves the atoms by OpenMM, and serves IMDv3.

It speaks the protocol, reads and writes the formats by code of its own, so that it shows what a program would see.
"""

import socket
import struct
import sys

import numpy as np
import openmm
from openmm import app, unit

VELOCITY_UNIT = 20.45482706
COLUMNS = "TS BOND ANGLE DIHED IMPRP ELECT VDW BOUNDARY MISC KINETIC TOTAL TEMP POTENTIAL TOTAL3 TEMPAVG".split()  # noqa: SIM905


def main():
    say("Info: NAMD 3.0.2 for Linux-x86_64-multicore")
    names = [argument for argument in sys.argv[1:] if not argument.startswith("+")]
    if not names:
        say("FATAL ERROR: No simulation config file specified on command line.")
        return 1
    with open(names[0]) as file:
        entries = {line.split()[0].lower(): line.split(maxsplit=1)[1].strip() for line in file if line[0] not in "#\n"}
    simulation, box = prepared(entries)
    if "minimize" in entries:
        simulation.minimizeEnergy(maxIterations=int(entries["minimize"]))
    else:
        serve(simulation, entries, box)
    end(simulation, entries["outputname"], box)
    return 0


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def prepared(entries):
    prmtop = app.AmberPrmtopFile(entries["parmfile"])
    implicit = {"implicitSolvent": app.OBC2, "gbsaModel": None} if entries.get("gbis") == "on" else {}
    method = app.PME if entries.get("pme") == "yes" else app.NoCutoff
    constraints = app.HBonds if entries.get("rigidbonds") == "all" else None
    cutoff = float(entries["cutoff"]) * unit.angstrom
    system = prmtop.createSystem(nonbondedMethod=method, nonbondedCutoff=cutoff, constraints=constraints, **implicit)
    integrator = openmm.LangevinMiddleIntegrator(
        float(entries.get("langevintemp", 0)),
        float(entries.get("langevindamping", 0)),
        float(entries.get("timestep", 1)) / 1000,
    )
    integrator.setRandomNumberSeed(int(entries.get("seed", 1)) % 2**31)
    simulation = app.Simulation(prmtop.topology, system, integrator, openmm.Platform.getPlatformByName("CPU"))
    box = np.zeros((3, 3))
    if "extendedsystem" in entries:
        with open(entries["extendedsystem"]) as file:
            box = np.array(file.read().splitlines()[-1].split()[1:10], float).reshape(3, 3) / 10
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
