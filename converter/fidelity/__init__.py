"""How close a package is to the reference network, and what that is worth."""
