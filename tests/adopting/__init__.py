"""Existing NATS services behind a real controller: in Python, in JavaScript, and hostile ones."""
