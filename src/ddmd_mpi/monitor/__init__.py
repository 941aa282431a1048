"""What a run tells of itself: records, spans, the live view, logs and the summary."""
