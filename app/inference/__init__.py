"""Records to checked ids, ids to features."""
