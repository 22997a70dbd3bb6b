"""The router: a pure core, a thin edge, and the loop between them."""
