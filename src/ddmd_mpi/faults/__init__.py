"""Who is lost, who hangs, and when to stop."""
