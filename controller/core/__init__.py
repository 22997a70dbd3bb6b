"""Every decision, and no input or output: see ``router`` for the way in."""
