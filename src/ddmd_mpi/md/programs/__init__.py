"""Engines that are separate programs: each walker's is a child process that runs segment by segment."""
