"""Latents and frames to decisions: outliers, strategies, and the restart policy. No other room knows of neighbours."""
