"""Reading an `.mlpackage`: its program, its graph, its lint, its interface."""
