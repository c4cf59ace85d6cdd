"""What every test starts from."""

from agents import set_tracing_disabled

set_tracing_disabled(True)
