"""Small servers that use chatkit-clienttools as a backend would. Each has its test next door."""
