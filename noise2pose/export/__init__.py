"""Motion written as files that other tools open: one module a format, each a function from a `Motion` to a file."""
