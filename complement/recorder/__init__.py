"""Reads the results of Complement, keeps them, and shows them."""
