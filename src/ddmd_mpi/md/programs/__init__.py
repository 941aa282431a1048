"""Engines that are programs of their own: each walker's is a child process that runs segment by segment."""
