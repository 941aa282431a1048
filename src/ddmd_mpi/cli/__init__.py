"""The command line. The only package with click."""
