"""The embedded use cases: one TOML file and its structures each."""
