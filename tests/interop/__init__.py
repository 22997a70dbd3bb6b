"""What others built for NATS, used against a real controller: clients and tools that know nothing of this project."""
