"""What travels: blocks of frames, the window that keeps them, and the commands that go back."""
