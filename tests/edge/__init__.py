"""Controllers on a real nats-server, met by nothing but NATS clients."""
