"""Looking an installation over, each fault on a real nats-server that is set up that way."""
