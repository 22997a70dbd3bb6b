"""What Crank does, as tests."""
