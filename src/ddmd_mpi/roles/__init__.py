"""What each rank does in stream mode."""
