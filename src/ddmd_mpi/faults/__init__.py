"""Lost ranks, hung ranks, and when to stop."""
