"""A todo list with an assistant: tools over MCP, one database, users kept apart, any number of workers."""
