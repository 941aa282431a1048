"""The command line. The only room with click."""
