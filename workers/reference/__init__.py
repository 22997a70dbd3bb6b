"""The reference workers, one file each; ``workers.catalogue`` finds them by name."""
