"""Tools for objectives beside the controller: measured results and what is judged by them, rules, exchange formats."""
