"""Files of a run: written atomically, read within bounds."""
