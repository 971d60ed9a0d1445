"""Tells services what happens as it happens: one look at the database for all who watch in this process."""
