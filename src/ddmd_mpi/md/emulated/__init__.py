"""Motion without molecular dynamics: frames made up, replayed from a trajectory, or drawn from a Markov model."""
