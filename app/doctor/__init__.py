"""`gena doctor`: the whole product tried on one machine, and a report of it."""
