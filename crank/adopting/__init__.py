"""Offering an existing NATS service as capabilities, without a line changed there."""
