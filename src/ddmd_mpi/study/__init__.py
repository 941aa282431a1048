"""Arms x seeds x systems as one resumable job, and what the trials say together: ``ddmd-mpi study FILE.toml``."""
