"""The site of docs/, as `make docs` builds it."""
