"""``python -m ddmd_mpi``."""

from .cli.entry import main

if __name__ == "__main__":
    main()
