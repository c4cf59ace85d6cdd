"""Small servers that use chatkit-clienttools as a backend would: `python -m examples`. Each has its test next door."""
