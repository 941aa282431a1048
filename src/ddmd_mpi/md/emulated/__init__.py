"""Motion without molecular dynamics: frames that are made up, or replayed from a trajectory."""
