"""Monitoring of a run: records, spans, the live view, logs and the summary."""
