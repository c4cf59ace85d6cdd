"""An assistant that notes facts and switches the theme: two tools, each with a client tool call, in one turn."""
